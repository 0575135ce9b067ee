//! Parse, run, print the error on one line, choose the exit code:
//! 0 fine; 1 written, but verification failed; 2 could not do it.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    // A panic of the verifying engine is caught and becomes an error: it is said once, there.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !clip_onnx::engine::panics_are_caught() {
            hook(panic);
        }
    }));
    match cli::run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("clip-onnx: {}", cli::error(&error));
            ExitCode::from(2)
        }
    }
}
