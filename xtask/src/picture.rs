//! `cargo xtask picture`: draws what the demo really prints, for the README.
//!
//! The demo runs, its standard output is shown as it comes, and what it printed becomes a picture of
//! a terminal (SVG), line for line. Nothing is added but the prompt.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::programs;
use crate::shell::{Done, Failure, announce, checkout, command};

const PICTURE: &str = "docs/images/demo.svg";

/// Runs the demo with `args` and writes its picture.
///
/// # Errors
/// The demo does not build or fails, or the picture cannot be written.
pub fn run(args: &[String]) -> Done {
    let daemon = programs::release_daemon()?;
    announce("demo");
    let mut demo = command(daemon);
    demo.arg("demo").args(args).stdout(Stdio::piped());
    let mut running =
        demo.spawn().map_err(|error| Failure::new(format!("the demo cannot be started: {error}")))?;
    let mut lines = vec![["$ cargo xtask demo", &args.join(" ")].join(" ").trim_end().to_owned()];
    let printed = running.stdout.take().expect("it was asked to be piped");
    for line in BufReader::new(printed).lines().map_while(Result::ok) {
        println!("{line}");
        lines.push(line);
    }
    let status = running.wait().map_err(|error| Failure::new(format!("the demo is lost: {error}")))?;
    if !status.success() {
        return Err(Failure::new(format!("the demo failed ({status}), there is nothing to draw")));
    }
    let path = checkout().join(PICTURE);
    fs::write(&path, draw(&lines))
        .map_err(|error| Failure::new(format!("{} cannot be written: {error}", path.display())))?;
    eprintln!("    {PICTURE} is drawn");
    Ok(())
}

// In units of the picture: one character of a 13 px monospace font, and one line of it.
const CHAR_WIDTH: f64 = 7.83;
const LINE_HEIGHT: usize = 18;
const MARGIN: usize = 16;

fn draw(lines: &[String]) -> String {
    let columns = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0).max(60);
    let width = (columns as f64 * CHAR_WIDTH) as usize + 2 * MARGIN;
    let height = lines.len() * LINE_HEIGHT + 2 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <title>cargo xtask demo, as it ran</title>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#14181d\"/>\n\
         <g font-family=\"ui-monospace, Menlo, Consolas, monospace\" font-size=\"13\" fill=\"#d5dae0\">\n"
    );
    for (index, line) in lines.iter().enumerate() {
        let y = MARGIN + LINE_HEIGHT * (index + 1) - 5;
        svg.push_str(&format!(
            "<text x=\"{MARGIN}\" y=\"{y}\" xml:space=\"preserve\">{}</text>\n",
            escaped(line)
        ));
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

fn escaped(line: &str) -> String {
    line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program prints is text, whatever it looks like.
    #[test]
    fn a_picture_shows_the_lines_as_they_were() {
        let svg = draw(&["p99 < 12 ms & falling".to_owned(), String::new()]);
        assert!(svg.contains(">p99 &lt; 12 ms &amp; falling</text>"), "{svg}");
        assert_eq!(svg.matches("<text").count(), 2);
    }
}
