/work/wt-rust/examples/rust-cffi/target/x86_64-unknown-linux-gnu/release/deps/topwords.d: src/lib.rs

/work/wt-rust/examples/rust-cffi/target/x86_64-unknown-linux-gnu/release/deps/libtopwords.so: src/lib.rs

src/lib.rs:
