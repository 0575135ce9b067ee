//! Parse, run, print the error on one line, choose the exit code:
//! 0 fine; 1 written, but verification failed; 2 could not do it.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    match cli::run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // Each error names its cause in its own sentence.
            eprintln!("clip-onnx: {error}");
            ExitCode::from(2)
        }
    }
}
