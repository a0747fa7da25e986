//! How the shared library is linked.

use std::env::var;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=stdcall.def");
    // Threads of the library, and its handler for `exit`, outlive a dlclose: so does its code.
    if var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
    if var("TARGET").is_ok_and(|target| target == "i686-pc-windows-gnu") {
        let here = var("CARGO_MANIFEST_DIR").unwrap();
        println!("cargo:rustc-cdylib-link-arg={here}/stdcall.def");
    }
}
