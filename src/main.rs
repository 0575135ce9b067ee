//! Parse, run, print the error on one line, choose the exit code:
//! 0 fine; 1 written, but verification failed; 2 could not do it.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    // A panic of the verifying engine is caught and becomes an error: it is said once, there.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !clip_onnx::verify::panics_are_caught() {
            hook(panic);
        }
    }));
    match cli::run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // Each error names its cause in its own sentence.
            eprintln!("clip-onnx: {}", one_line(&error.to_string()));
            ExitCode::from(2)
        }
    }
}

/// Names come from files: whatever they hold, an error stays on its line.
fn one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
