//! A service that acknowledges a record when it is durable. The tasks of many connections share one
//! writer, and its fences: a thousand waiting clients cost one flush.
//!
//! `cargo run --bin service -- take.log`, then lines to port 7070: `nc localhost 7070`.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use writeflush::{Error, Options, SharedWriter};

/// Takes the record, waits for the disk, and holds up no other task meanwhile.
async fn push(log: &SharedWriter, record: &[u8]) -> Result<u64, Error> {
    loop {
        match log.try_write(record) {
            Err(Error::Full { .. }) => log.room(record.len()).await?,
            result => return result,
        }
    }
}

/// Answers each line with the position from which on it survives a power cut.
async fn serve(client: TcpStream, log: SharedWriter) -> std::io::Result<()> {
    let (reader, mut writer) = client.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        push(&log, format!("{line}\n").as_bytes()).await?;
        let durable = log.fence().await?;
        writer.write_all(format!("{durable}\n").as_bytes()).await?;
    }
    Ok(())
}

async fn listen(on: TcpListener, log: SharedWriter) -> std::io::Result<()> {
    loop {
        let (client, _) = on.accept().await?;
        let log = log.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(client, log).await {
                eprintln!("a client is gone: {error}");
            }
        });
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or("take.log".into());
    let log = Options::new().append(path)?.into_shared();
    Ok(listen(TcpListener::bind("localhost:7070").await?, log).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_acknowledged_is_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = Options::new().create(&path).unwrap().into_shared();
        let listener = TcpListener::bind("localhost:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(listen(listener, log.clone()));
        let clients = (0..8).map(|number| {
            tokio::spawn(async move {
                let mut client = BufReader::new(TcpStream::connect(address).await.unwrap());
                for record in 0..20 {
                    let line = format!("client {number} record {record}\n");
                    client.write_all(line.as_bytes()).await.unwrap();
                    let mut answer = String::new();
                    client.read_line(&mut answer).await.unwrap();
                    assert!(answer.trim().parse::<u64>().unwrap() >= line.len() as u64);
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        assert_eq!(log.positions().durable, log.positions().accepted);
        server.abort();
        log.close().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        for number in 0..8 {
            let own = |line: &&str| line.starts_with(&format!("client {number} "));
            let wanted = (0..20).map(|record| format!("client {number} record {record}"));
            assert!(text.lines().filter(own).eq(wanted));
        }
    }
}
