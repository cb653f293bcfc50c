#include "proto/http1_chunked.h"

#include <gtest/gtest.h>

#include <string>

#include "proto/codec_limits.h"
#include "tests/unit/proto/guarded_input.h"

namespace tunnel::proto {
namespace {

using Kind = ChunkedDecoder::Step::Kind;
using std::string_literals::operator""s;

struct Outcome {
  Kind kind = Kind::kNeedMore;
  std::string data;
  size_t left = 0;
  std::string trailers;
};

Outcome Decode(const Arrival& arrival) {
  ChunkedDecoder decoder;
  Outcome outcome;
  for (const std::string& piece : arrival.pieces) {
    const ExactBytes exact(piece);
    std::string_view input = exact.view();
    for (bool more = true; more;) {
      const ChunkedDecoder::Step step = decoder.Next(input);
      EXPECT_LE(step.consumed, input.size());
      EXPECT_EQ(step.kind == Kind::kData, !step.data.empty());
      EXPECT_EQ(step.kind == Kind::kError, !step.reason.empty());
      outcome.data += step.data;
      outcome.trailers += step.trailers;
      outcome.kind = step.kind;
      input.remove_prefix(step.consumed);
      more = step.kind == Kind::kData;
    }
    if (outcome.kind == Kind::kNeedMore) {
      EXPECT_TRUE(input.empty());
    }
    outcome.left += input.size();
  }
  return outcome;
}

TEST(Chunked, HandsOutTrailers) {
  const struct {
    std::string input;
    std::string trailers;
  } cases[] = {
      {"0\r\n\r\n", "\r\n"},
      {"1\r\na\r\n0;x\r\nX-T: a \x80\r\nY:\r\n\r\n", "X-T: a \x80\r\nY:\r\n\r\n"},
  };
  for (const auto& c : cases) {
    ForEachArrival(c.input, [&](const Arrival& arrival) {
      const Outcome outcome = Decode(arrival);
      EXPECT_EQ(outcome.kind, Kind::kDone);
      EXPECT_EQ(outcome.trailers, c.trailers) << arrival.how;
    });
  }
}

TEST(Chunked, Decodes) {
  const struct {
    std::string input;
    std::string data;
  } cases[] = {
      {"0\r\n\r\n", ""},
      {"000\r\n\r\n", ""},
      {"5\r\nhello\r\n0\r\n\r\n", "hello"},
      {"A\r\n0123456789\r\n1\r\n\r\r\n0\r\n\r\n", "0123456789\r"},
      {"2\r\n\r\n\r\n0;last\r\n\r\n", "\r\n"},
      {"0a;x=\"a;b\"; y\r\n0123456789\r\n0\r\n\r\n", "0123456789"},
      {"1\r\na\r\n0\r\nX-T: a \x80\r\nY:\r\n\r\n", "a"},
      {std::string(255, '0') + "1\r\na\r\n0\r\n\r\n", "a"},
  };
  for (const auto& c : cases) {
    ForEachArrival(c.input, [&c](const Arrival& arrival) {
      SCOPED_TRACE(c.input + std::string(arrival.how));
      const Outcome outcome = Decode(arrival);
      EXPECT_EQ(outcome.kind, Kind::kDone);
      EXPECT_EQ(outcome.data, c.data);
      EXPECT_EQ(outcome.left, arrival.trailing);
    });
    for (size_t size = 0; size < c.input.size(); ++size) {
      EXPECT_NE(Decode({.pieces = {c.input.substr(0, size)}}).kind, Kind::kDone) << size;
    }
  }
}

TEST(Chunked, Refuses) {
  std::string many_extensions;
  for (size_t bytes = 0; bytes <= kHttp1MaxChunkExtensionBytes; bytes += 201) {
    many_extensions += "1;" + std::string(200, 'x') + "\r\na\r\n";
  }
  for (const std::string& input : {
           "\r\n"s,
           ";\r\n"s,
           "g\r\n"s,
           "0x5\r\n"s,
           "-1\r\n"s,
           "+1\r\n"s,
           " 1\r\n"s,
           "1 \r\n"s,
           "1 ;a\r\n"s,
           "1\t\r\n"s,
           "1\n"s,
           "1\r\r"s,
           "1\rx"s,
           "1;a\nb"s,
           "1;a\rb"s,
           "1;\0"s,
           "1\r\nab"s,  // any two bytes after the data are not CRLF (CVE-2025-43859)
           "1\r\naXY"s,
           "1\r\na\n"s,
           "1\r\na\rX"s,
           "8000000000000000\r\n"s,
           "ffffffffffffffff\r\n"s,
           "10000000000000000\r\n"s,  // 2^64: reads as 0 where the size wraps
           "10000000000000005\r\n"s,
           "f00000000000000005\r\n"s,
           std::string(257, '0') + "1\r\n",
           "1;" + std::string(kHttp1MaxChunkLineBytes, 'x') + "\r\n",
           "0\r\n\n"s,
           "0\r\n\rX"s,
           "0\r\n X: y\r\n"s,
           "0\r\n: y\r\n"s,
           "0\r\nX : y\r\n"s,
           "0\r\nX\r\n"s,
           "0\r\nX: y\n"s,
           "0\r\nX: y\rz"s,
           "0\r\nX: \0"s,
           "0\r\nX: " + std::string(kHttp1MaxTrailerBytes, 'y') + "\r\n",
           many_extensions,
       }) {
    ForEachArrival(input, [&input](const Arrival& arrival) {
      SCOPED_TRACE(input.substr(0, 60) + std::string(arrival.how));
      EXPECT_EQ(Decode(arrival).kind, Kind::kError);
    });
  }
}

TEST(Chunked, TakesTheLargestSize) {
  ChunkedDecoder decoder;
  const auto step = decoder.Next("7fffffffffffffff\r\nab");
  EXPECT_EQ(step.kind, Kind::kData);
  EXPECT_EQ(step.data, "ab");
}

TEST(Chunked, StaysWhereItEnded) {
  ChunkedDecoder done;
  EXPECT_EQ(done.Next("0\r\n\r\n").kind, Kind::kDone);
  EXPECT_EQ(done.Next("0\r\n\r\n").kind, Kind::kDone);
  EXPECT_EQ(done.Next("x").consumed, 0U);
  ChunkedDecoder failed;
  EXPECT_EQ(failed.Next("x").kind, Kind::kError);
  EXPECT_EQ(failed.Next("0\r\n\r\n").kind, Kind::kError);
  EXPECT_FALSE(failed.Next("").reason.empty());
}

}  // namespace
}  // namespace tunnel::proto
