//! With `watch-interpreter`, every way into the interpreter leads through `ffi_watch`. With `ordered`, the functions that run
//! lie together: the system maps what is touched of a file with the 64 KB around it.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_WATCH_INTERPRETER").is_some() {
        for door in ["PyGILState_Ensure", "PyEval_RestoreThread"] {
            println!("cargo::rustc-cdylib-link-arg=-Wl,--wrap={door}");
        }
    }
    // Elsewhere the linker is another.
    let has_lld = cfg_is("ARCH", "x86_64") && cfg_is("OS", "linux") && cfg_is("ENV", "gnu");
    if has_lld && env::var_os("CARGO_FEATURE_ORDERED").is_some() {
        let order = Path::new(env!("CARGO_MANIFEST_DIR")).join("order.txt");
        println!("cargo::rerun-if-changed=order.txt");
        println!("cargo::rustc-cdylib-link-arg=-Wl,--symbol-ordering-file={}", order.display());
        // What the compiler has put elsewhere since is laid wherever there is room.
        println!("cargo::rustc-cdylib-link-arg=-Wl,--no-warn-symbol-ordering");
    }
}

fn cfg_is(key: &str, value: &str) -> bool {
    env::var(format!("CARGO_CFG_TARGET_{key}")).is_ok_and(|is| is == value)
}
