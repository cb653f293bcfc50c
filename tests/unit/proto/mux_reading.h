// Messages of mux/2 as tests spell them, and one door to the decoder for all of them.
#pragma once

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <string_view>

#include "tests/unit/proto/mux_transcript.h"

namespace tunnel::proto {

// The bytes that `hex` spells; white space is skipped.
inline std::string FromHex(std::string_view hex) {
  std::string bytes;
  int high = -1;
  for (const char c : hex) {
    if (c == ' ') continue;
    const int digit = c <= '9' ? c - '0' : c - 'a' + 10;
    EXPECT_TRUE(digit >= 0 && digit < 16) << hex;
    if (high >= 0) bytes.push_back(static_cast<char>(high * 16 + digit));
    high = high >= 0 ? -1 : digit;
  }
  EXPECT_EQ(high, -1) << hex;
  return bytes;
}

// Reads `message` whole, byte by byte and in random pieces, each with a decoder of its own; all must say the same.
inline std::string ReadMuxAll(Role reader, Opcode opcode, const std::string& message) {
  MuxDecoder decoder(reader);
  const std::string whole = DescribeMux(ReadMux(decoder, opcode, message, 0));
  if (message.size() <= 4096) {
    MuxDecoder bytewise(reader);
    EXPECT_EQ(DescribeMux(ReadMux(bytewise, opcode, message, 1)), whole) << "byte by byte";
  }
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    const size_t most = message.size() > 4096 ? 20000 : 1 + seed;
    MuxDecoder pieces(reader);
    const MuxResult result = ReadMux(pieces, opcode, message, [&](size_t) { return 1 + random() % most; });
    EXPECT_EQ(DescribeMux(result), whole) << "in random pieces, seed " << seed;
  }
  return whole;
}

inline std::string ReadMuxAll(Role reader, const std::string& message) {
  return ReadMuxAll(reader, Opcode::kBinary, message);
}

inline std::string Repeat(std::string_view text, size_t times) {
  std::string all;
  for (size_t i = 0; i < times; ++i) all += text;
  return all;
}

}  // namespace tunnel::proto
