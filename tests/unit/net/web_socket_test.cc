#include "net/web_socket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "manual_backend.h"
#include "memory_stream.h"
#include "message_peer.h"
#include "net/limits.h"
#include "proto/websocket_encoder.h"
#include "stream_recorder.h"
#include "tests/unit/as_bytes.h"

namespace tunnel::net {
namespace {

using namespace std::chrono_literals;
using proto::Opcode;
using proto::Role;
using proto::WebSocketDecoder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// The socket under test over one end of a stream, and at the other end bytes: frames are written by hand and read by a
// decoder.
class WebSocketTest : public ManualReactorTest, public testing::WithParamInterface<Role> {
 protected:
  WebSocketTest() {
    auto [near, far] = MemoryStream::Pair(reactor());
    far_ = std::move(far);
    far_->SetHandler(&wire_);
    peer_ = std::make_unique<MessagePeer>(reactor(), std::move(near), GetParam());
  }

  // A frame of the peer's, as its role wants it; `first` is the first byte.
  [[nodiscard]] std::string Frame(uint8_t first, std::string_view payload) const {
    std::string frame(1, static_cast<char>(first));
    const bool masked = GetParam() == Role::kServer;
    const char mask_bit = masked ? '\x80' : '\0';
    if (payload.size() < 126) {
      frame += static_cast<char>(static_cast<char>(payload.size()) | mask_bit);
    } else {
      frame += static_cast<char>(126 | mask_bit);
      frame += static_cast<char>(payload.size() >> 8);
      frame += static_cast<char>(payload.size() & 0xFF);
    }
    if (!masked) return frame + std::string(payload);
    constexpr std::array<char, 4> kMask = {'\x11', '\x22', '\x33', '\x44'};
    frame.append(kMask.data(), kMask.size());
    for (size_t i = 0; i < payload.size(); ++i) frame += static_cast<char>(payload[i] ^ kMask[i % 4]);
    return frame;
  }
  static std::string ClosePayload(uint16_t code, std::string_view reason) {
    return std::string{static_cast<char>(code >> 8), static_cast<char>(code & 0xFF)} + std::string(reason);
  }
  void Put(std::string_view frames) {
    SendAll(*far_, frames);
    Settle();
  }

  // What the socket has sent since the last call: "t hello", "ping abc", "close 1000 bye", ...
  std::vector<std::string> Sent() {
    std::string bytes = std::exchange(wire_.received, {});
    return Decode(bytes);
  }
  std::vector<std::string> Decode(std::string& bytes) {
    std::vector<std::string> sent;
    decoder_.Feed({reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()});
    for (auto event = decoder_.Next(); event.kind != WebSocketDecoder::EventKind::kNeedMore; event = decoder_.Next()) {
      const std::string payload(event.payload.begin(), event.payload.end());
      switch (event.kind) {
        case WebSocketDecoder::EventKind::kMessageBegin:
          message_ = event.opcode == Opcode::kText ? "t " : "b ";
          break;
        case WebSocketDecoder::EventKind::kMessageData:
          message_ += payload;
          break;
        case WebSocketDecoder::EventKind::kMessageEnd:
          sent.push_back(message_);
          break;
        case WebSocketDecoder::EventKind::kPing:
          last_ping_ = payload;
          sent.push_back("ping");
          break;
        case WebSocketDecoder::EventKind::kPong:
          sent.push_back("pong " + payload);
          break;
        case WebSocketDecoder::EventKind::kClose:
          sent.push_back(fmt::format("close {} {}", event.close_code, event.reason));
          break;
        case WebSocketDecoder::EventKind::kError:
        default:
          ADD_FAILURE() << "the socket sent a bad frame: " << event.reason;
          return sent;
      }
    }
    return sent;
  }

  std::unique_ptr<MemoryStream> far_;
  StreamRecorder wire_;
  std::unique_ptr<MessagePeer> peer_;
  WebSocketDecoder decoder_{{.role = proto::PeerOf(GetParam()), .check_utf8 = false}};
  std::string message_;
  std::string last_ping_;
};

INSTANTIATE_TEST_SUITE_P(Roles, WebSocketTest, testing::Values(Role::kClient, Role::kServer),
                         [](const auto& tested) { return tested.param == Role::kClient ? "Client" : "Server"; });

TEST_P(WebSocketTest, SendsHeadAndPayloadAsOneMessage) {
  peer_->socket().SendMessage(Opcode::kBinary, AsBytes("head|"), AsBytes("payload"));
  peer_->socket().SendMessage(Opcode::kText, AsBytes("only head"), {});
  peer_->socket().SendMessage(Opcode::kText, {}, {});
  const std::string large(WebSocket::kMaxSendBytes - 1, 'x');
  peer_->socket().SendMessage(Opcode::kBinary, AsBytes("h"), AsBytes(large));
  Settle();
  EXPECT_THAT(Sent(), ElementsAre("b head|payload", "t only head", "t ", "b h" + large));
}

TEST_P(WebSocketTest, MasksWithFreshKeysIfItIsTheClient) {
  peer_->Say("the same text");
  Settle();
  const std::string first = std::exchange(wire_.received, {});
  peer_->Say("the same text");
  Settle();
  const bool client = GetParam() == Role::kClient;
  EXPECT_EQ(first == wire_.received, !client);
  EXPECT_EQ(first.find("the same text") == std::string::npos, client);
}

TEST_P(WebSocketTest, ReceivesFragmentsWithControlFramesBetweenThem) {
  Put(Frame(0x01, "one ") + Frame(0x89, "are you there") + Frame(0x00, "two ") + Frame(0x8A, "unasked") +
      Frame(0x80, "three") + Frame(0x82, "next") + Frame(0x81, ""));
  EXPECT_THAT(peer_->messages, ElementsAre("t one two three", "b next", "t "));
  EXPECT_EQ(peer_->pieces, 4) << "nothing is put together";
  EXPECT_THAT(Sent(), ElementsAre("pong are you there"));
  EXPECT_EQ(peer_->socket().round_trip(), core::Duration::zero()) << "a Pong that nobody asked for measures nothing";
}

TEST_P(WebSocketTest, ReceivesWhatCameBehindTheUpgrade) {
  auto [near, far] = MemoryStream::Pair(reactor());
  WebSocket socket(reactor(), std::move(near), {.role = GetParam()});
  // Its handler is another's; only what it says counts.
  MessagePeer& recorder = *peer_;
  socket.Start(&recorder, Bytes(Frame(0x81, "early") + Frame(0x01, "ha")));
  far->Send(Bytes(Frame(0x80, "lf")));
  Settle();
  EXPECT_THAT(recorder.messages, ElementsAre("t early", "t half"));
}

// --- the closing handshake (RFC 6455 section 7) ---

TEST_P(WebSocketTest, AnswersACloseAndEndsInOrder) {
  Put(Frame(0x81, "last words") + Frame(0x88, ClosePayload(1001, "going away")) + Frame(0x81, "ignored"));
  EXPECT_THAT(peer_->messages, ElementsAre("t last words"));
  ASSERT_TRUE(peer_->down.has_value());
  EXPECT_THAT(std::string(MessageOf(*peer_->down)), HasSubstr("1001: going away"));
  EXPECT_THAT(Sent(), ElementsAre("close 1001 "));
  EXPECT_EQ(wire_.ends, 1);
  EXPECT_FALSE(wire_.dead.has_value()) << "in order, not by a reset";
  EXPECT_FALSE(peer_->socket().writable());
  peer_->Say("into the void");  // harmless
  peer_->socket().Close(1000, "");
}

TEST_P(WebSocketTest, AnswersACloseWithoutACode) {
  Put(Frame(0x88, ""));
  EXPECT_THAT(Sent(), ElementsAre("close 1005 "));
  EXPECT_TRUE(peer_->down.has_value());
}

TEST_P(WebSocketTest, ClosesAndWaitsForTheAnswer) {
  peer_->Say("before");
  peer_->socket().Close(1000, "enough");
  peer_->Say("after");
  peer_->socket().Close(1011, "twice");
  Settle();
  EXPECT_THAT(Sent(), ElementsAre("t before", "close 1000 enough")) << "nothing follows a Close";
  EXPECT_FALSE(peer_->down.has_value());
  // What the peer had sent before it saw our Close still counts; its Pings are not answered any more.
  Put(Frame(0x81, "crossing") + Frame(0x89, "ping"));
  EXPECT_THAT(peer_->messages, ElementsAre("t crossing"));
  EXPECT_FALSE(peer_->down.has_value());
  Put(Frame(0x88, ClosePayload(1000, "")));
  ASSERT_TRUE(peer_->down.has_value());
  EXPECT_THAT(std::string(MessageOf(*peer_->down)), HasSubstr("closed by us: enough"));
  EXPECT_THAT(Sent(), IsEmpty());
  EXPECT_EQ(wire_.ends, 1);
}

TEST_P(WebSocketTest, DoesNotWaitForeverForTheAnswer) {
  peer_->socket().Close(1001, "server stops");
  RunFor(kCloseLimit - 10ms);
  EXPECT_FALSE(peer_->down.has_value());
  RunFor(20ms);
  ASSERT_TRUE(peer_->down.has_value());
  EXPECT_THAT(std::string(MessageOf(*peer_->down)), HasSubstr("server stops"));
  EXPECT_EQ(wire_.ends, 1);
}

TEST_P(WebSocketTest, SaysThatThePeerLeftWithoutAClose) {
  for (const bool dies : {false, true}) {
    auto [near, far] = MemoryStream::Pair(reactor());
    MessagePeer peer(reactor(), std::move(near), GetParam());
    far->Send(Bytes(Frame(0x01, "half a mess")));
    Settle();
    if (dies) {
      far->Abort();
    } else {
      far->FinishSend();
    }
    Settle();
    ASSERT_TRUE(peer.down.has_value());
    EXPECT_TRUE(absl::IsUnavailable(*peer.down)) << *peer.down;
    EXPECT_THAT(std::string(MessageOf(*peer.down)), HasSubstr(dies ? "connection reset" : "without a Close"));
    EXPECT_THAT(peer.messages, IsEmpty());
  }
}

// --- peers that break the rules ---

TEST_P(WebSocketTest, EndsABrokenConnectionWithTheRightCode) {
  struct Case {
    const char* what;
    std::string bytes;
    int code;
  };
  const bool server = GetParam() == Role::kServer;
  // What the peer may not do: mask as a server, not mask as a client.
  const std::string wrong_mask = server ? std::string("\x81\x02hi", 4) : std::string("\x81\x82\0\0\0\0hi", 8);
  const std::string mask_bit(1, server ? '\xFF' : '\x7F');
  const std::vector<Case> cases = {
      {"reserved bit", Frame(0xC1, "x"), 1002},
      {"reserved opcode", Frame(0x83, "x"), 1002},
      {"reserved control opcode", Frame(0x8B, ""), 1002},
      {"wrong masking", wrong_mask, 1002},
      {"fragmented control frame", Frame(0x09, "x"), 1002},
      {"long control frame", Frame(0x89, std::string(126, 'x')), 1002},
      {"continuation of nothing", Frame(0x80, "x"), 1002},
      {"message within a message", Frame(0x01, "x") + Frame(0x81, "y"), 1002},
      {"Close with half a code", Frame(0x88, "x"), 1002},
      {"Close with a code that must not travel", Frame(0x88, ClosePayload(1005, "")), 1002},
      {"Close with a reason that is not UTF-8", Frame(0x88, ClosePayload(1000, "\xFF")), 1007},
      {"a frame larger than a message may be", "\x82" + mask_bit + std::string("\0\0\0\0\0\x10\0\x01", 8) + "mask",
       1009},
      {"a length with its top bit set", "\x82" + mask_bit + std::string("\x80\0\0\0\0\0\0\x01", 8) + "mask", 1002},
  };
  int64_t errors = reactor().counters().protocol_errors.Get();
  for (const Case& c : cases) {
    auto [near, far] = MemoryStream::Pair(reactor());
    StreamRecorder wire;
    far->SetHandler(&wire);
    MessagePeer peer(reactor(), std::move(near), GetParam());
    SendAll(*far, Frame(0x81, "good") + c.bytes + Frame(0x81, "unheard"));
    Settle();
    EXPECT_THAT(peer.messages, ElementsAre("t good")) << c.what;
    ASSERT_TRUE(peer.down.has_value()) << c.what;
    EXPECT_THAT(std::string(MessageOf(*peer.down)), HasSubstr(fmt::format("sent {}", c.code))) << c.what;
    EXPECT_EQ(reactor().counters().protocol_errors.Get(), ++errors) << c.what;
    // A decoder of its own: the connection is.
    WebSocketDecoder decoder({.role = proto::PeerOf(GetParam())});
    decoder.Feed({reinterpret_cast<uint8_t*>(wire.received.data()), wire.received.size()});
    const auto event = decoder.Next();
    EXPECT_EQ(event.kind, WebSocketDecoder::EventKind::kClose) << c.what;
    EXPECT_EQ(event.close_code, c.code) << c.what;
    EXPECT_EQ(wire.ends, 1) << c.what;
  }
}

TEST_P(WebSocketTest, ChecksUtf8OnlyWhenToldTo) {
  for (const bool check : {false, true}) {
    auto [near, far] = MemoryStream::Pair(reactor());
    WebSocket socket(reactor(), std::move(near), {.role = GetParam(), .check_utf8 = check});
    peer_->Take();
    peer_->down.reset();
    socket.Start(peer_.get(), {});
    far->Send(Bytes(Frame(0x81, "\xFF\xFE")));
    Settle();
    EXPECT_EQ(peer_->down.has_value(), check);
    EXPECT_EQ(peer_->messages.size(), check ? 0U : 1U);
  }
}

// --- backpressure ---

TEST_P(WebSocketTest, TellsWhenThePeerReadsAgain) {
  far_->PauseReceive();
  const std::string block(8000, 'x');
  size_t sent = 0;
  while (peer_->socket().writable()) {
    peer_->Say(block);
    ++sent;
  }
  Settle();
  EXPECT_EQ(peer_->writables, 0);
  far_->ResumeReceive();
  Settle();
  EXPECT_EQ(peer_->writables, 1);
  EXPECT_TRUE(peer_->socket().writable());
  EXPECT_EQ(Sent().size(), sent);
}

TEST_P(WebSocketTest, StopsReadingUntilEveryPauseIsTakenBack) {
  peer_->socket().PauseReceive();
  peer_->socket().PauseReceive();
  const std::string frame = Frame(0x81, std::string(8000, 'x'));
  size_t sent = 0;
  for (; far_->writable(); ++sent) far_->Send(Bytes(frame));
  Settle();
  EXPECT_THAT(peer_->messages, IsEmpty());
  EXPECT_FALSE(far_->writable()) << "the peer is held back";
  peer_->socket().ResumeReceive();
  Settle();
  EXPECT_THAT(peer_->messages, IsEmpty());
  peer_->socket().ResumeReceive();
  Settle();
  EXPECT_EQ(peer_->messages.size(), sent);
}

// --- keep-alive ---

TEST_P(WebSocketTest, PingsAndKnowsTheRoundTrip) {
  EXPECT_EQ(peer_->socket().round_trip(), core::Duration::zero());
  // The interval is jittered downwards by a fifth.
  RunFor(kPingInterval * 4 / 5 - 10ms);
  EXPECT_THAT(Sent(), IsEmpty());
  for (core::Duration waited{}; last_ping_.empty(); waited += 1ms) {
    ASSERT_LE(waited, kPingInterval);
    RunFor(1ms);
    (void)Sent();
  }
  backend().Advance(70ms);
  Put(Frame(0x8A, "something else"));
  EXPECT_EQ(peer_->socket().round_trip(), core::Duration::zero());
  Put(Frame(0x8A, last_ping_));
  EXPECT_GE(peer_->socket().round_trip(), 70ms);
  EXPECT_LE(peer_->socket().round_trip(), 80ms);
}

TEST_P(WebSocketTest, TakesASilentPeerForDead) {
  Put(Frame(0x81, "alive"));
  RunFor(kDeadPeerLimit - 1s);
  EXPECT_FALSE(peer_->down.has_value());
  EXPECT_GE(Sent().size(), 2U) << "one Ping may be lost";
  RunFor(kPingInterval + 1s);
  ASSERT_TRUE(peer_->down.has_value());
  EXPECT_EQ(peer_->down->code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(MessageOf(*peer_->down)), HasSubstr("silent for 3"));
}

TEST_P(WebSocketTest, KeepsAPeerThatSaysAnything) {
  const std::array<std::string, 3> signs = {Frame(0x8A, "pong"), Frame(0x89, "ping"), Frame(0x01, "")};
  for (const std::string& sign : signs) {
    for (int i = 0; i < 20; ++i) {
      if (sign != signs[2] || i == 0) Put(sign);
      RunFor(kDeadPeerLimit / 2);
      if (sign == signs[2]) Put(Frame(0x00, "x"));
      ASSERT_FALSE(peer_->down.has_value());
    }
  }
}

TEST_P(WebSocketTest, DoesNotBlameThePeerForOurOwnPause) {
  peer_->socket().PauseReceive();
  RunFor(10 * kDeadPeerLimit);
  EXPECT_FALSE(peer_->down.has_value());
  peer_->socket().ResumeReceive();
  RunFor(kDeadPeerLimit - 1s);
  EXPECT_FALSE(peer_->down.has_value()) << "the silence counts from the end of the pause";
  RunFor(kPingInterval + 1s);
  EXPECT_TRUE(peer_->down.has_value());
}

TEST_P(WebSocketTest, TwoOfThemKeepEachOther) {
  auto [near, far] = MemoryStream::Pair(reactor());
  MessagePeer one(reactor(), std::move(near), Role::kClient);
  MessagePeer other(reactor(), std::move(far), Role::kServer);
  RunFor(std::chrono::minutes(30));
  EXPECT_FALSE(one.down.has_value());
  one.Say("still up");
  Settle();
  EXPECT_THAT(other.messages, ElementsAre("t still up"));
  one.socket().Close(1000, "done");
  Settle();
  EXPECT_THAT(std::string(MessageOf(one.down.value_or(absl::OkStatus()))), HasSubstr("closed by us"));
  EXPECT_THAT(std::string(MessageOf(other.down.value_or(absl::OkStatus()))), HasSubstr("1000: done"));
}

// --- destruction from inside a callback ---

TEST_P(WebSocketTest, MayBeDestroyedFromEveryCallback) {
  for (const int where : {0, 1, 2, 3, 4}) {
    auto [near, far] = MemoryStream::Pair(reactor());
    StreamRecorder wire;
    far->SetHandler(&wire);
    MessagePeer peer(reactor(), std::move(near), GetParam());
    bool destroyed = false;
    const auto destroy = [&] {
      peer.Destroy();
      destroyed = true;
    };
    std::array<std::function<void()>*, 5> callbacks = {&peer.on_begin, &peer.on_data, &peer.on_message,
                                                       &peer.on_writable, &peer.on_down};
    *callbacks[static_cast<size_t>(where)] = destroy;
    if (where == 3) {
      far->PauseReceive();
      while (peer.socket().writable()) peer.Say(std::string(8000, 'x'));
      far->ResumeReceive();
    } else {
      far->Send(Bytes(Frame(0x81, "one") + Frame(0x81, "two") + Frame(0x88, ClosePayload(1000, ""))));
    }
    Settle();
    EXPECT_TRUE(destroyed) << where;
    // A socket that was not over is cut off, one that was over ends in order.
    EXPECT_EQ(wire.dead.has_value(), where != 4) << where;
  }
}

}  // namespace
}  // namespace tunnel::net
