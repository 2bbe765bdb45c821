/work/wt-rust/examples/rust-cffi/target/x86_64-unknown-linux-gnu/release/libtopwords.so: /work/wt-rust/examples/rust-cffi/src/lib.rs
