// The first byte chooses role, UTF-8 check, message limit and how the rest, the byte stream, is cut. However it is cut,
// the decoder must say the same; and what it read, written again by the encoder, must read the same.
#include <cstddef>
#include <cstdint>
#include <string>

#include "proto/websocket_encoder.h"
#include "tests/unit/proto/websocket_transcript.h"

namespace {

using namespace tunnel::proto;

constexpr MaskKey kKey = {0x9A, 0x00, 0x5C, 0xF1};

// Reads `stream` and writes every message and control frame again as the peer would have.
class Rewriter {
 public:
  explicit Rewriter(const WebSocketDecoder::Options& options) : role_(PeerOf(options.role)), decoder_(options) {}

  std::string Rewrite(std::string stream) {
    using Kind = WebSocketDecoder::EventKind;
    uint8_t frame[kMaxControlFrameBytes];
    std::string message;
    decoder_.Feed({reinterpret_cast<uint8_t*>(stream.data()), stream.size()});
    for (;;) {
      const auto event = decoder_.Next();
      switch (event.kind) {
        case Kind::kNeedMore:
        case Kind::kError:
          return out_;
        case Kind::kMessageBegin:
          message.clear();
          break;
        case Kind::kMessageData:
          message += AsString(event.payload);
          break;
        case Kind::kMessageEnd: {
          // In two fragments, so that continuation and the check of UTF-8 across it are exercised.
          const size_t half = message.size() / 2;
          Data(event.opcode, false, message.substr(0, half));
          Data(Opcode::kContinuation, true, message.substr(half));
          break;
        }
        case Kind::kPing:
          Append(frame, EncodePing(frame, role_, event.payload, kKey));
          break;
        case Kind::kPong:
          Append(frame, EncodePong(frame, role_, event.payload, kKey));
          break;
        case Kind::kClose:
          Append(frame, EncodeClose(frame, role_, event.close_code, event.reason, kKey));
          break;
      }
    }
  }

 private:
  void Append(const uint8_t* frame, size_t size) { out_ += AsString({frame, size}); }

  void Data(Opcode opcode, bool fin, std::string payload) {
    uint8_t header[kMaxFrameHeaderBytes];
    Append(header, EncodeFrameHeader(header, role_, opcode, fin, payload.size(), kKey));
    if (role_ == Role::kClient) ApplyMask({reinterpret_cast<uint8_t*>(payload.data()), payload.size()}, kKey, 0);
    out_ += payload;
  }

  Role role_;
  WebSocketDecoder decoder_;
  std::string out_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const uint8_t choice = data[0];
  const std::string stream(reinterpret_cast<const char*>(data) + 1, size - 1);
  const WebSocketDecoder::Options options = {
      .role = (choice & 1) != 0 ? Role::kClient : Role::kServer,
      .check_utf8 = (choice & 2) == 0,
      .max_message_bytes = (choice & 4) != 0 ? 100 : kDefaultMaxMessageBytes,
  };
  const WebSocketTranscript whole = Transcribe(stream, options, 0);
  const std::string line = whole.Line();
  TUNNEL_CHECK(TranscriptOf(stream, options, 1) == line);
  TUNNEL_CHECK(TranscriptOf(stream, options, 2 + (choice >> 3)) == line);

  const WebSocketTranscript again = Transcribe(Rewriter(options).Rewrite(stream), options, 0);
  TUNNEL_CHECK(again.items() == whole.items());
  TUNNEL_CHECK(again.Ending().empty());
  return 0;
}
