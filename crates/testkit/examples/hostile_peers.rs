//! Serves the hostile peers on loopback: `hostile_peers [NAME…]`.
//!
//! Says in one line of JSON where they are, and ends with its standard input. A name is the beginning of one, such as
//! `certificate` or `"cut off/reset"`; without any, all of them are there.

use std::io;

use southbridge_testkit::hostile::serve_forever;

fn main() -> io::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    serve_forever(&wanted, &mut io::stdin().lock(), &mut io::stdout().lock())
}
