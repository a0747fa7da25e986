//! MCAP, chunk by chunk: after each the file is durable, and what a power cut leaves can be read up to
//! there. The encoder knows one `flush` only, so the option makes that one the durable one. It is
//! given the writer by reference: `finish` would else drop it, and its errors with it.
//!
//! `cargo run --bin telemetry -- take.mcap`

use std::collections::BTreeMap;
use std::sync::Arc;

use mcap::{Channel, Message, WriteOptions};
use writeflush::{Options, Summary};

fn record(path: &str, messages: u32) -> Result<Summary, Box<dyn std::error::Error>> {
    let mut writer = Options::new().durable_flush(true).create(path)?;
    let options = WriteOptions::new().compression(None).chunk_size(None); // chunks end where we say
    let mut mcap = options.create(&mut writer)?;
    let channel = Arc::new(Channel {
        id: 0,
        topic: "temperature".into(),
        schema: None,
        message_encoding: "text".into(),
        metadata: BTreeMap::new(),
    });
    for sequence in 0..messages {
        let time = u64::from(sequence) * 1_000_000;
        mcap.write(&Message {
            channel: channel.clone(),
            sequence,
            log_time: time,
            publish_time: time,
            data: format!("{} K", 300 + sequence % 7).into_bytes().into(),
        })?;
        if sequence % 100 == 99 {
            mcap.flush()?; // ends the chunk, and is a fence
        }
    }
    mcap.finish()?;
    drop(mcap);
    Ok(writer.close()?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or("take.mcap".into());
    println!("{path}: {} bytes durable", record(&path, 1000)?.positions.durable);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readable(bytes: &[u8]) -> usize {
        let all = mcap::MessageStream::new_with_options(
            bytes,
            mcap::read::Options::IgnoreEndMagic.into(),
        );
        all.unwrap().map_while(Result::ok).count()
    }

    #[test]
    fn what_a_cut_leaves_is_readable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("take.mcap");
        let summary = record(path.to_str().unwrap(), 1000).unwrap();
        assert!(summary.stats.fences >= 10, "each flush is a fence");
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(mcap::MessageStream::new(&bytes).unwrap().count(), 1000);
        assert!(readable(&bytes[..bytes.len() / 2]) >= 300, "chunks of a hundred");
    }
}
