//! A JACK client whose samples are known, for the tests: each port counts 1, 2, 3, …, the second one
//! downwards. Ends with its standard input.

use std::io::Read;

use jack::{
    AudioOut, Client, ClientOptions, Control, ProcessScope, contrib::ClosureProcessHandler,
};

/// Whole numbers up to here are exact in a sample.
const TOP: u32 = 1 << 23;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (client, _) = Client::new("generator", ClientOptions::NO_START_SERVER)?;
    let mut up = client.register_port("up", AudioOut::default())?;
    let mut down = client.register_port("down", AudioOut::default())?;
    let mut count = 0;
    let generate = move |_: &Client, scope: &ProcessScope| {
        let places = up.as_mut_slice(scope).iter_mut().zip(down.as_mut_slice(scope));
        for (up, down) in places {
            count = count % TOP + 1;
            (*up, *down) = (count as f32, -(count as f32));
        }
        Control::Continue
    };
    let _active = client.activate_async((), ClosureProcessHandler::new(generate))?;
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
