// The first byte chooses role and opcode, the second how the rest, one message, is cut. However it is cut, the decoder
// must say the same; what it found, written again, must be the bytes it was read from; and a message behind it is read
// as if it stood alone.
#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/unit/proto/mux_transcript.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tunnel::proto;
  if (size < 2) return 0;
  const Role role = (data[0] & 1) != 0 ? Role::kClient : Role::kServer;
  const Opcode opcode = (data[0] & 2) != 0 ? Opcode::kText : Opcode::kBinary;
  const std::string message(reinterpret_cast<const char*>(data) + 2, size - 2);

  MuxDecoder decoder(role);
  const MuxResult result = ReadMux(decoder, opcode, message, 0);
  const std::string expected = DescribeMux(result);
  // Byte by byte where that does not take long, and in pieces whose sizes come from a generator seeded by the input.
  if (message.size() < 2048) {
    MuxDecoder other(role);
    TUNNEL_CHECK(DescribeMux(ReadMux(other, opcode, message, 1)) == expected);
  }
  uint32_t state = data[1];
  const auto next_piece = [&](size_t left) {
    state = state * 1664525 + 1013904223;
    return (state >> 30) == 0 ? left : 1 + (state >> 8) % 37;
  };
  MuxDecoder other(role);
  TUNNEL_CHECK(DescribeMux(ReadMux(other, opcode, message, next_piece)) == expected);

  if (!result.error.empty()) {
    TUNNEL_CHECK(decoder.failed());
    TUNNEL_CHECK(ReadMux(decoder, Opcode::kBinary, message, 0).error == result.error);
    return 0;
  }
  if (result.has_frame) {
    TUNNEL_CHECK(result.ended);
    TUNNEL_CHECK(WriteMux(PeerOf(role), result.View(), result.payload) == message);
  }
  TUNNEL_CHECK(DescribeMux(ReadMux(decoder, opcode, message, 0)) == expected);
  return 0;
}
