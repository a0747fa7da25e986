//! Records JACK ports to a WAV file, in real-time mode.

pub mod capture;
pub mod tape;
pub mod wav;
