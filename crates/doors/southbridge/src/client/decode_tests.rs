use compression_codecs::core::Level;
use compression_codecs::{BrotliEncoder, DeflateEncoder, EncodeV2, GzipEncoder, ZlibEncoder, ZstdEncoder};
use proptest::prelude::*;

use super::*;

fn encode(mut encoder: impl EncodeV2, plain: &[u8]) -> Vec<u8> {
    let mut out = vec![0; plain.len() * 2 + 4096];
    let mut input = PartialBuffer::new(plain);
    let mut output = WriteBuffer::new_initialized(&mut out);
    while !input.unwritten().is_empty() {
        encoder.encode(&mut input, &mut output).expect("it encodes");
    }
    while !encoder.finish(&mut output).expect("it ends") {}
    let len = output.written_len();
    out.truncate(len);
    out
}

fn encoded(coding: &str, plain: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => encode(GzipEncoder::new(Level::Default.into()), plain),
        "deflate" => encode(ZlibEncoder::new(Level::Default.into()), plain),
        "bare" => encode(DeflateEncoder::new(Level::Default.into()), plain),
        "br" => encode(BrotliEncoder::new(Default::default()), plain),
        _ => encode(ZstdEncoder::new(3), plain),
    }
}

fn headers(coding: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_ENCODING, coding.parse().expect("a value"));
    headers
}

fn decoder(coding: &str) -> Decoder {
    let coding = if coding == "bare" { "deflate" } else { coding };
    Decoder::of(&headers(coding), &BodyLimits::default()).expect("one coding").expect("a known one")
}

/// Decodes `pieces`, and tells how large the largest piece was that came of it.
fn decode<'a>(
    coding: &str,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(Vec<u8>, usize), DecodeError> {
    let mut decoder = decoder(coding);
    let (mut out, mut largest) = (Vec::new(), 0);
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(made) = decoder.next(&mut input)? {
            largest = largest.max(made.len());
            out.extend_from_slice(&made);
        }
        assert!(input.is_empty(), "all of it is used");
    }
    decoder.finish()?;
    Ok((out, largest))
}

const CODINGS: [&str; 5] = ["gzip", "deflate", "bare", "br", "zstd"];

fn text(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| b"abcdefgh"[(at * at / 7) % 8]).collect()
}

/// Cut at every byte, each encoding gives the same again.
#[test]
fn a_body_may_be_cut_anywhere() {
    let plain = text(300);
    for coding in CODINGS {
        let wire = encoded(coding, &plain);
        for at in 0..=wire.len() {
            let (out, _) =
                decode(coding, [&wire[..at], &wire[at..]]).unwrap_or_else(|e| panic!("{coding} {at}: {e}"));
            assert_eq!(out, plain, "{coding} cut at {at}");
        }
        assert_eq!(decode(coding, wire.chunks(1)).expect(coding).0, plain);
    }
}

/// Faults row 7: a body that ends early is not taken for a short one.
#[test]
fn a_body_that_ends_early_is_an_error() {
    let plain = text(5000);
    for coding in CODINGS {
        let wire = encoded(coding, &plain);
        for at in [1, 2, wire.len() / 2, wire.len() - 1] {
            assert!(decode(coding, [&wire[..at]]).is_err(), "{coding} cut at {at}");
        }
        assert_eq!(decode(coding, []).expect("nothing at all is nothing").0, b"");
    }
}

/// Faults row 7: a gigabyte of zeros in a few kilobytes.
#[test]
fn a_bomb_is_given_up_after_a_mebibyte() {
    let zeros = vec![0; 64 << 20];
    for coding in CODINGS {
        let wire = encoded(coding, &zeros);
        let mut decoder = decoder(coding);
        let mut input = Bytes::from(wire);
        let mut made = 0;
        let error = loop {
            match decoder.next(&mut input) {
                Ok(Some(piece)) => {
                    assert!(piece.len() <= PIECE_BYTES);
                    made += piece.len();
                }
                Ok(None) => panic!("{coding}: it is never taken whole"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, DecodeError::Bomb { .. }), "{coding}: {error}");
        assert!(made <= 8 << 20, "{coding}: {made} bytes were made of it");
    }
}

#[test]
fn what_is_encoded_twice_is_refused() {
    for codings in ["gzip, gzip", "gzip, br", "identity, gzip, gzip"] {
        let error = Decoder::of(&headers(codings), &BodyLimits::default()).unwrap_err();
        assert!(matches!(error, DecodeError::Stacked { .. }), "{codings}");
    }
    for codings in ["identity", "", "x-unknown"] {
        assert!(Decoder::of(&headers(codings), &BodyLimits::default()).unwrap().is_none(), "{codings}");
    }
}

/// Two members, and padding behind them.
#[test]
fn members_follow_one_another() {
    for coding in ["gzip", "zstd"] {
        let both = [encoded(coding, b"hello "), encoded(coding, b"world")].concat();
        assert_eq!(decode(coding, [&both[..]]).expect(coding).0, b"hello world");
    }
    let padded = [encoded("gzip", b"hello"), vec![0; 100]].concat();
    assert_eq!(decode("gzip", [&padded[..]]).expect("padding is left alone").0, b"hello");
}

/// A zstd frame that asks for a window of 128 MiB does not get it.
#[test]
fn a_huge_window_is_refused() {
    // Magic; descriptor: no single segment, no checksum, no size; window descriptor: exponent 17, that is 2^27.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0x01, 0x00, 0x00];
    assert!(matches!(decode("zstd", [&frame[..]]), Err(DecodeError::Malformed { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the bytes and however they are cut: the same again, in pieces of at most one size.
    #[test]
    fn what_was_encoded_comes_out_again(plain in proptest::collection::vec(0_u8..8, 0..200_000), cut in 1_usize..70_000) {
        for coding in CODINGS {
            let wire = encoded(coding, &plain);
            let (out, largest) = decode(coding, wire.chunks(cut)).expect(coding);
            prop_assert!(out == plain, "{}", coding);
            prop_assert!(largest <= PIECE_BYTES);
        }
    }

    /// Noise is never a panic.
    #[test]
    fn noise_is_an_error_or_nothing(noise in proptest::collection::vec(any::<u8>(), 0..2000), cut in 1_usize..100) {
        for coding in CODINGS {
            let mut decoder = decoder(coding);
            for piece in noise.chunks(cut) {
                let mut input = Bytes::copy_from_slice(piece);
                while let Ok(Some(_)) = decoder.next(&mut input) {}
            }
        }
    }
}
