#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "memory_stream.h"
#include "net/limits.h"
#include "net/web_socket.h"
#include "proto/websocket_encoder.h"
#include "run_task.h"
#include "tests/unit/as_bytes.h"

namespace tunnel::net {
namespace {

using proto::Opcode;
using proto::Role;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// What a WebSocket tells its user, as text.
class Log final : public WebSocket::Handler {
 public:
  void OnMessageBegin(Opcode opcode) override { message_ = opcode == Opcode::kText ? "T(" : "B("; }
  void OnMessageData(core::Slice piece) override { message_ += piece.text(); }
  void OnMessageEnd() override { lines.push_back(message_ + ")"); }
  void OnWritable() override { lines.emplace_back("writable"); }
  void OnDown(const absl::Status& reason) override { down = MessageOf(reason); }

  std::vector<std::string> lines;
  std::string down;

 private:
  std::string message_;
};

// The other end: bytes by hand, and what came read as frames.
class Peer final : ByteStream::Handler {
 public:
  Peer(core::Reactor& reactor, std::unique_ptr<MemoryStream> stream, Role role)
      : reactor_(reactor), stream_(std::move(stream)), role_(role), decoder_({.role = role}) {
    stream_->SetHandler(this);
  }

  // A frame of this end, masked where it must be.
  [[nodiscard]] std::string Frame(Opcode opcode, std::string_view payload, bool fin = true) const {
    const proto::MaskKey key = {1, 2, 3, 4};
    std::array<uint8_t, proto::kMaxFrameHeaderBytes> header{};
    const size_t size = proto::EncodeFrameHeader(header, role_, opcode, fin, payload.size(), key);
    std::string frame(reinterpret_cast<const char*>(header.data()), size);
    std::string body(payload);
    if (role_ == Role::kClient) proto::ApplyMask({reinterpret_cast<uint8_t*>(body.data()), body.size()}, key, 0);
    return frame + body;
  }
  [[nodiscard]] std::string Close(uint16_t code, std::string_view reason = "") const {
    std::string payload = {static_cast<char>(code >> 8), static_cast<char>(code)};
    return Frame(Opcode::kClose, payload.append(reason));
  }
  void Send(std::string_view bytes) { stream_->Send(reactor_.buffers().Copy(bytes)); }
  void End() { stream_->FinishSend(); }

  std::vector<std::string> frames;  // "T(text)", "ping(x)", "close 1000(reason)", "error 1002"
  std::string raw;
  bool ended = false;

 private:
  void OnData(core::Slice data) override {
    raw += data.text();
    decoder_.Feed(data.bytes());
    for (auto event = decoder_.Next(); event.kind != proto::WebSocketDecoder::EventKind::kNeedMore;
         event = decoder_.Next()) {
      const std::string payload(event.payload.begin(), event.payload.end());
      switch (event.kind) {
        case proto::WebSocketDecoder::EventKind::kMessageBegin:
          frames.emplace_back(event.opcode == Opcode::kText ? "T(" : "B(");
          break;
        case proto::WebSocketDecoder::EventKind::kMessageData:
          frames.back() += payload;
          break;
        case proto::WebSocketDecoder::EventKind::kMessageEnd:
          frames.back() += ")";
          break;
        case proto::WebSocketDecoder::EventKind::kPing:
          frames.push_back(fmt::format("ping({} bytes)", payload.size()));
          break;
        case proto::WebSocketDecoder::EventKind::kPong:
          frames.push_back(fmt::format("pong({})", payload));
          break;
        case proto::WebSocketDecoder::EventKind::kClose:
          frames.push_back(fmt::format("close {}({})", event.close_code, event.reason));
          break;
        case proto::WebSocketDecoder::EventKind::kError:
          frames.push_back(fmt::format("error {}", event.close_code));
          return;
        case proto::WebSocketDecoder::EventKind::kNeedMore:
          break;
      }
    }
  }
  void OnEnd() override { ended = true; }
  void OnDrained() override {}
  void OnDead(absl::Status /*reason*/) override { ended = true; }

  core::Reactor& reactor_;
  std::unique_ptr<MemoryStream> stream_;
  const Role role_;
  proto::WebSocketDecoder decoder_;
};

class WebSocketRules : public testing::TestWithParam<Role> {
 protected:
  void SetUp() override { Connect(true); }
  void Connect(bool check_utf8, size_t piece = SIZE_MAX) {
    socket_.reset();
    peer_.reset();
    log_ = Log();
    auto [ours, theirs] = MemoryStream::Pair(*reactor_, piece);
    peer_ = std::make_unique<Peer>(*reactor_, std::move(theirs), proto::PeerOf(GetParam()));
    socket_ = std::make_unique<WebSocket>(*reactor_, std::move(ours),
                                          WebSocket::Options{.role = GetParam(), .check_utf8 = check_utf8});
    socket_->Start(&log_, core::Slice());
  }
  void Settle() {
    for (int turn = 0; turn < 20; ++turn) reactor_->Turn(reactor_->backend().Now());
  }
  [[nodiscard]] Peer& peer() { return *peer_; }

  std::unique_ptr<core::Reactor> reactor_ = MakeTestReactor();
  Log log_;
  std::unique_ptr<Peer> peer_;
  std::unique_ptr<WebSocket> socket_;
};
INSTANTIATE_TEST_SUITE_P(Roles, WebSocketRules, testing::Values(Role::kClient, Role::kServer),
                         [](const auto& row) { return row.param == Role::kClient ? "Client" : "Server"; });

TEST_P(WebSocketRules, MessagesBothWays) {
  peer().Send(peer().Frame(Opcode::kText, "Hel", false) + peer().Frame(Opcode::kContinuation, "lo") +
              peer().Frame(Opcode::kBinary, ""));
  socket_->SendMessage(Opcode::kBinary, AsBytes("head:"), AsBytes("payload"));
  socket_->SendFragment(Opcode::kText, false, AsBytes("one "));
  socket_->SendFragment(Opcode::kContinuation, false, AsBytes(""));
  socket_->SendFragment(Opcode::kContinuation, true, AsBytes("two"));
  Settle();
  EXPECT_THAT(log_.lines, ElementsAre("T(Hello)", "B()"));
  EXPECT_THAT(peer().frames, ElementsAre("B(head:payload)", "T(one two)"));
}

// Section 5.3: a client's key comes fresh for every frame; a server's frames have none.
TEST_P(WebSocketRules, MasksAsItsRoleMust) {
  std::set<std::string> keys;
  for (int i = 0; i < 64; ++i) {
    peer().raw.clear();
    socket_->SendMessage(Opcode::kText, {}, AsBytes("x"));
    Settle();
    ASSERT_EQ(peer().raw.size(), GetParam() == Role::kClient ? 7U : 3U);
    EXPECT_EQ((peer().raw[1] & 0x80) != 0, GetParam() == Role::kClient);
    keys.insert(peer().raw.substr(2, 4));
  }
  if (GetParam() == Role::kClient) {
    EXPECT_EQ(keys.size(), 64U);
  }
}

// Section 5.5.2: with the same payload, also between the fragments of a message.
TEST_P(WebSocketRules, PingsAreAnswered) {
  peer().Send(peer().Frame(Opcode::kPing, "") + peer().Frame(Opcode::kText, "a", false) +
              peer().Frame(Opcode::kPing, std::string(125, 'p')) + peer().Frame(Opcode::kContinuation, "b") +
              peer().Frame(Opcode::kPong, "nobody asked"));
  Settle();
  EXPECT_THAT(peer().frames, ElementsAre("pong()", "pong(" + std::string(125, 'p') + ")"));
  EXPECT_THAT(log_.lines, ElementsAre("T(ab)"));
}

// Sections 5.5.1 and 7.1.2: the same code comes back, then the stream ends, and what follows a Close is not looked at.
TEST_P(WebSocketRules, AnswersAClose) {
  struct Row {
    std::string close;
    std::string answer;
    std::string reason;
  };
  for (const Row& row : std::vector<Row>{
           {peer().Close(1000, "bye"), "close 1000()", "closed by the peer with code 1000: bye"},
           {peer().Close(4999), "close 4999()", "closed by the peer with code 4999"},
           {peer().Frame(Opcode::kClose, ""), "close 1005()", "closed by the peer with code 1005"},
       }) {
    Connect(true);
    peer().Send(row.close + peer().Frame(Opcode::kText, "late") + peer().Frame(Opcode::kPing, "late") + "\xff\xff");
    Settle();
    EXPECT_THAT(peer().frames, ElementsAre(row.answer));
    EXPECT_TRUE(peer().ended);
    EXPECT_EQ(log_.down, row.reason);
    EXPECT_THAT(log_.lines, IsEmpty());
    socket_->SendMessage(Opcode::kText, {}, AsBytes("nobody is there"));
    Settle();
    EXPECT_THAT(peer().frames, ElementsAre(row.answer));
  }
}

// Section 7.1.7: a Close with the code of the fault, then the end, whatever else comes.
TEST_P(WebSocketRules, ClosesOnAFault) {
  struct Row {
    std::string frames;
    std::string answer;
  };
  const std::string wrong_mask = GetParam() == Role::kServer ? std::string("\x81\x01x") : std::string("\x81\x81keyx");
  for (const Row& row : std::vector<Row>{
           {wrong_mask, "close 1002("},
           {peer().Frame(Opcode::kContinuation, "x"), "close 1002("},
           {peer().Close(1006), "close 1002("},
           {peer().Close(1000, "\xff"), "close 1007("},
           {peer().Frame(Opcode::kText, "\xff"), "close 1007("},
           {std::string(GetParam() == Role::kServer ? "\x82\xff" : "\x82\x7f") +
                std::string("\0\0\0\1\0\0\0\0keyx", 12),
            "close 1009("},
       }) {
    Connect(true);
    peer().Send(row.frames + peer().Frame(Opcode::kText, "late"));
    Settle();
    ASSERT_EQ(peer().frames.size(), 1U);
    EXPECT_THAT(peer().frames[0], testing::StartsWith(row.answer));
    EXPECT_TRUE(peer().ended);
    EXPECT_THAT(log_.down, HasSubstr("broke the WebSocket protocol"));
    EXPECT_THAT(log_.lines, IsEmpty());
  }
}

TEST_P(WebSocketRules, LegacyPeersPutBytesIntoText) {
  Connect(false);
  peer().Send(peer().Frame(Opcode::kText, "\xff\xc0"));
  Settle();
  EXPECT_THAT(log_.lines, ElementsAre("T(\xff\xc0)"));
}

// Section 7.1.2: who begins waits for the answer, still takes what is on its way, and sends nothing more.
TEST_P(WebSocketRules, BeginsAClose) {
  socket_->Close(proto::kCloseGoingAway, "we stop");
  socket_->SendMessage(Opcode::kText, {}, AsBytes("too late"));
  socket_->Close(proto::kCloseNormal, "again");
  peer().Send(peer().Frame(Opcode::kText, "on its way") + peer().Frame(Opcode::kPing, "no answer"));
  Settle();
  EXPECT_THAT(peer().frames, ElementsAre("close 1001(we stop)"));
  EXPECT_THAT(log_.lines, ElementsAre("T(on its way)"));
  EXPECT_EQ(log_.down, "");
  peer().Send(peer().Close(1001));
  Settle();
  EXPECT_EQ(log_.down, "closed by us: we stop");
  EXPECT_THAT(peer().frames, ElementsAre("close 1001(we stop)"));
}

// Section 7.1.5: an end without a Close is told apart from one with it.
TEST_P(WebSocketRules, EndWithoutAClose) {
  peer().Send(peer().Frame(Opcode::kText, "half", false));
  peer().End();
  Settle();
  EXPECT_EQ(log_.down, "the peer ended the connection without a Close");
  EXPECT_THAT(log_.lines, IsEmpty());
}

TEST_P(WebSocketRules, HoweverTheBytesAreCut) {
  Connect(true, 1);
  peer().Send(peer().Frame(Opcode::kText, "h\xc3\xa9llo") + peer().Frame(Opcode::kPing, "p") +
              peer().Frame(Opcode::kBinary, std::string(130, 'x')) + peer().Close(1000));
  ASSERT_TRUE(TurnUntil(*reactor_, [&] { return !log_.down.empty() && peer().ended; }));
  EXPECT_THAT(log_.lines, ElementsAre("T(h\xc3\xa9llo)", "B(" + std::string(130, 'x') + ")"));
  EXPECT_THAT(peer().frames, ElementsAre("pong(p)", "close 1000()"));
}

TEST_P(WebSocketRules, PausingStopsMessages) {
  socket_->PauseReceive();
  socket_->PauseReceive();
  peer().Send(peer().Frame(Opcode::kText, "x"));
  Settle();
  EXPECT_THAT(log_.lines, IsEmpty());
  socket_->ResumeReceive();
  Settle();
  EXPECT_THAT(log_.lines, IsEmpty()) << "paused twice";
  socket_->ResumeReceive();
  Settle();
  EXPECT_THAT(log_.lines, ElementsAre("T(x)"));
}

}  // namespace
}  // namespace tunnel::net
