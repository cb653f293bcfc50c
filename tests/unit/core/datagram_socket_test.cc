#include "core/datagram_socket.h"

#include <set>

#include "core/limits.h"
#include "reactor_fixture.h"

namespace tunnel::core {
namespace {

using testing::Pattern;
using Peer = testing::RawDatagramPeer;
using testing::ReactorTest;

struct Received {
  SocketAddress from;
  std::string text;
};

class Inbox final : public DatagramSocket::Handler {
 public:
  void OnDatagram(const SocketAddress& from, Slice data) override {
    received.push_back({from, std::string(data.text())});
    if (keep) kept.push_back(std::move(data));
    if (on_datagram) on_datagram(from, received.back().text);
  }
  void OnSocketError(IoError error) override { errors.push_back(error); }

  std::vector<Received> received;
  std::vector<IoError> errors;
  bool keep = false;
  std::vector<Slice> kept;
  std::function<void(const SocketAddress&, const std::string&)> on_datagram;
};

SocketAddress Loopback(bool v6, uint16_t port = 0) { return *SocketAddress::Parse(v6 ? "::1" : "127.0.0.1", port); }

class DatagramSocketTest : public ReactorTest {
 protected:
  DatagramSocket Open(bool v6 = false) {
    auto socket = DatagramSocket::Open(reactor(), Loopback(v6));
    EXPECT_TRUE(socket.ok()) << MessageOf(socket.status());
    return *std::move(socket);
  }
  [[nodiscard]] int64_t Unsent() { return reactor().counters().datagrams_unsent.Get(); }
  [[nodiscard]] int64_t Errors() { return reactor().counters().datagram_errors.Get(); }
};
TUNNEL_FOR_EVERY_BACKEND_AND_SIM(DatagramSocketTest);

TEST_P(DatagramSocketTest, EveryDatagramComesWholeWithItsSender) {
  for (const bool v6 : {false, true}) {
    DatagramSocket socket = Open(v6);
    Inbox inbox;
    socket.Start(inbox);
    const Peer one(Loopback(v6));
    const Peer two(Loopback(v6));
    one.SendTo(socket.local_address(), "one");
    two.SendTo(socket.local_address(), "");
    one.SendTo(socket.local_address(), "three");
    ASSERT_TRUE(RunUntil([&] { return inbox.received.size() == 3; }));
    EXPECT_EQ(inbox.received[0].text, "one");
    EXPECT_EQ(inbox.received[0].from, one.address());
    EXPECT_EQ(inbox.received[1].text, "");
    EXPECT_EQ(inbox.received[1].from, two.address());
    EXPECT_EQ(inbox.received[2].text, "three");
    EXPECT_EQ(inbox.received[2].from, one.address());
  }
  EXPECT_EQ(reactor().counters().datagrams_received.Get(), 6);
}

TEST_P(DatagramSocketTest, TheLargestDatagramPassesBothWays) {
  for (const bool v6 : {false, true}) {
    DatagramSocket socket = Open(v6);
    Inbox inbox;
    socket.Start(inbox);
    const Peer peer(Loopback(v6));
    const std::string largest = Pattern::Text(0, v6 ? 65527 : 65507);
    peer.SendTo(socket.local_address(), largest);
    ASSERT_TRUE(RunUntil([&] { return inbox.received.size() == 1; }));
    EXPECT_EQ(inbox.received[0].text, largest);
    socket.SendTo(peer.address(), Bytes(largest));
    std::optional<std::string> back;
    ASSERT_TRUE(RunUntil([&] { return (back = peer.Receive()).has_value(); }));
    EXPECT_EQ(*back, largest);
    EXPECT_EQ(Unsent(), 0);
    EXPECT_EQ(Errors(), 0);
  }
}

TEST_P(DatagramSocketTest, TooLongIsDroppedAndCountedAndTheRestGoes) {
  DatagramSocket socket = Open();
  const Peer peer(Loopback(false));
  socket.SendTo(peer.address(), Bytes("before"));
  socket.SendTo(peer.address(), Bytes(Pattern::Text(0, 65508)));  // the kernel refuses it
  socket.SendTo(peer.address(), Bytes(Pattern::Text(0, 65536)));  // we do
  socket.SendTo(peer.address(), Bytes("after"));
  Settle();
  EXPECT_EQ(peer.Receive(), "before");
  EXPECT_EQ(peer.Receive(), "after");
  EXPECT_EQ(peer.Receive(), std::nullopt);
  EXPECT_EQ(Unsent(), 2);
  EXPECT_EQ(reactor().counters().datagrams_sent.Get(), 2);
}

TEST_P(DatagramSocketTest, BurstsKeepOrder) {
  constexpr size_t kCount = 1000;
  constexpr size_t kBurst = 100;
  DatagramSocket one = Open();
  DatagramSocket two = Open();
  Inbox inbox;
  Inbox echoed;
  inbox.on_datagram = [&](const SocketAddress& from, const std::string& text) { two.SendTo(from, Bytes(text)); };
  two.Start(inbox);
  one.Start(echoed);
  for (size_t i = 0; i < kCount; i += kBurst) {
    for (size_t k = i; k < i + kBurst; ++k) one.SendTo(two.local_address(), Bytes(Pattern::Text(k, 100 + k)));
    ASSERT_TRUE(RunUntil([&] { return echoed.received.size() == i + kBurst; }));
  }
  for (size_t i = 0; i < kCount; ++i) ASSERT_EQ(echoed.received[i].text, Pattern::Text(i, 100 + i)) << i;
}

TEST_P(DatagramSocketTest, KeptSlicesDoNotStopReceiving) {
  constexpr size_t kCount = 4 * size_t{kDatagramBuffers};
  DatagramSocket socket = Open();
  Inbox inbox;
  inbox.keep = true;
  socket.Start(inbox);
  const Peer peer(Loopback(false));
  for (size_t i = 0; i < kCount; ++i) {
    peer.SendTo(socket.local_address(), Pattern::Text(i, 1000));
    if (i % 16 == 15) {
      ASSERT_TRUE(RunUntil([&] { return inbox.received.size() == i + 1; }));
    }
  }
  for (size_t i = 0; i < kCount; ++i) ASSERT_EQ(inbox.kept[i].text(), Pattern::Text(i, 1000)) << i;
}

// More at once than there are buffers: receiving stops and goes on.
TEST_P(DatagramSocketTest, MoreWaitingThanBuffers) {
  constexpr size_t kCount = 3 * size_t{kDatagramBuffers} + 7;
  DatagramSocket socket = Open();
  const Peer peer(Loopback(false));
  for (size_t i = 0; i < kCount; ++i) peer.SendTo(socket.local_address(), std::to_string(i));
  Inbox inbox;
  socket.Start(inbox);
  ASSERT_TRUE(RunUntil([&] { return inbox.received.size() == kCount; }));
  for (size_t i = 0; i < kCount; ++i) ASSERT_EQ(inbox.received[i].text, std::to_string(i));
}

TEST_P(DatagramSocketTest, ConnectedReceivesFromItsPeerOnly) {
  DatagramSocket socket = Open();
  Inbox inbox;
  const Peer peer(Loopback(false));
  const Peer stranger(Loopback(false));
  ASSERT_TRUE(socket.Connect(peer.address()).ok());
  socket.Start(inbox);
  stranger.SendTo(socket.local_address(), "stranger");
  peer.SendTo(socket.local_address(), "peer");
  socket.Send(Bytes("to the peer"));
  ASSERT_TRUE(RunUntil([&] { return !inbox.received.empty(); }));
  Settle();
  ASSERT_EQ(inbox.received.size(), 1U);
  EXPECT_EQ(inbox.received[0].text, "peer");
  EXPECT_EQ(peer.Receive(), "to the peer");
}

TEST_P(DatagramSocketTest, RefusedByThePeerAndAliveAfter) {
  DatagramSocket socket = Open();
  Inbox inbox;
  SocketAddress address;
  {
    const Peer gone(Loopback(false));
    address = gone.address();
  }
  ASSERT_TRUE(socket.Connect(address).ok());
  socket.Start(inbox);
  for (int64_t round = 1; round <= 3; ++round) {
    socket.Send(Bytes("anybody?"));
    ASSERT_TRUE(RunUntil([&] { return Errors() >= round; }));
  }
  EXPECT_TRUE(inbox.errors.empty());
  const Peer back(address);
  socket.Send(Bytes("somebody"));
  std::optional<std::string> got;
  ASSERT_TRUE(RunUntil([&] { return (got = back.Receive()).has_value(); }));
  EXPECT_EQ(*got, "somebody");
  back.SendTo(socket.local_address(), "here");
  ASSERT_TRUE(RunUntil([&] { return inbox.received.size() == 1; }));
  EXPECT_EQ(inbox.received[0].text, "here");
}

TEST_P(DatagramSocketTest, MayBeClosedFromItsCallback) {
  const Peer peer(Loopback(false));
  DatagramSocket socket = Open();
  Inbox inbox;
  inbox.on_datagram = [&](const SocketAddress& from, const std::string&) {
    socket.SendTo(from, Bytes("last words"));
    socket.Close();
  };
  const SocketAddress address = socket.local_address();
  socket.Start(inbox);
  for (int i = 0; i < 5; ++i) peer.SendTo(address, "x");
  ASSERT_TRUE(RunUntil([&] { return reactor().counters().sockets_open.Get() == 0; }));
  EXPECT_EQ(inbox.received.size(), 1U);
  EXPECT_EQ(peer.Receive(), "last words");
}

TEST_P(DatagramSocketTest, NeverStartedOrNeverUsed) {
  {
    const DatagramSocket socket = Open();
  }
  Inbox inbox;
  DatagramSocket socket = Open();
  socket.Start(inbox);
  DatagramSocket moved = std::move(socket);
  EXPECT_FALSE(socket.open());  // NOLINT(bugprone-use-after-move): what moving leaves is said in the header
  EXPECT_TRUE(moved.open());
}

TEST_P(DatagramSocketTest, OpeningATakenPortFails) {
  DatagramSocket socket = Open();
  const auto second = DatagramSocket::Open(reactor(), socket.local_address());
  ASSERT_FALSE(second.ok());
  EXPECT_NE(MessageOf(second.status()).find("address already in use"), std::string::npos) << MessageOf(second.status());
}

TEST_P(DatagramSocketTest, WaitingCostsNoTurns) {
  DatagramSocket socket = Open();
  Inbox inbox;
  socket.Start(inbox);
  Settle();
  EXPECT_LE(TurnsWithin(std::chrono::milliseconds(200), 5), 5);
}

}  // namespace
}  // namespace tunnel::core
