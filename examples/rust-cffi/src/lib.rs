//! Counts words. The functions below are all that Python calls; `cbindgen`, which is a part of maturin, reads their
//! declarations from here.

use std::collections::HashMap;

/// What was counted so far.
pub struct Counter {
    counts: HashMap<Vec<u8>, u64>,
    /// The beginning of a word whose end has not been seen yet.
    open: Vec<u8>,
    top: Vec<(Vec<u8>, u64)>,
}

/// Letters and digits of ASCII, and all bytes of other characters: whatever the language, blanks and signs end a word.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80
}

impl Counter {
    fn add(&mut self, word: &[u8]) {
        match self.counts.get_mut(word) {
            Some(count) => *count += 1,
            None => {
                self.counts.insert(word.to_vec(), 1);
            }
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            let word = std::mem::take(&mut self.open);
            self.add(&word);
        }
    }

    fn feed(&mut self, text: &[u8]) {
        for &byte in text {
            if is_word(byte) {
                self.open.push(byte.to_ascii_lowercase());
            } else if !self.open.is_empty() {
                let mut word = std::mem::take(&mut self.open);
                self.add(&word);
                word.clear();
                self.open = word;
            }
        }
    }
}

/// Make a counter; `topwords_free` takes it back.
#[no_mangle]
pub extern "C" fn topwords_new() -> *mut Counter {
    Box::into_raw(Box::new(Counter { counts: HashMap::new(), open: Vec::new(), top: Vec::new() }))
}

/// Count the words of a piece of text; a word may go on in the next piece.
///
/// # Safety
/// `counter` is from `topwords_new`, and `size` bytes can be read at `text`.
#[no_mangle]
pub unsafe extern "C" fn topwords_feed(counter: *mut Counter, text: *const u8, size: usize) {
    if size > 0 {
        (*counter).feed(std::slice::from_raw_parts(text, size));
    }
}

/// End the last word and sort: how many of the most frequent `most` words there are, for `topwords_word`.
///
/// # Safety
/// `counter` is from `topwords_new`.
#[no_mangle]
pub unsafe extern "C" fn topwords_sort(counter: *mut Counter, most: usize) -> usize {
    let counter = &mut *counter;
    counter.close();
    let mut all: Vec<_> = counter.counts.iter().map(|(word, count)| (word.clone(), *count)).collect();
    all.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    all.truncate(most);
    counter.top = all;
    counter.top.len()
}

/// One word of those that `topwords_sort` found: its bytes, valid until it is called again, and their number.
///
/// # Safety
/// `counter` is from `topwords_new`, `index` is below what `topwords_sort` returned, the others can be written.
#[no_mangle]
pub unsafe extern "C" fn topwords_word(
    counter: *const Counter,
    index: usize,
    size: *mut usize,
    count: *mut u64,
) -> *const u8 {
    let (word, times) = &(&(*counter).top)[index];
    *size = word.len();
    *count = *times;
    word.as_ptr()
}

/// Give a counter back.
///
/// # Safety
/// `counter` is from `topwords_new`, and nobody uses it afterwards.
#[no_mangle]
pub unsafe extern "C" fn topwords_free(counter: *mut Counter) {
    drop(Box::from_raw(counter));
}
