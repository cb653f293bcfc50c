// Datagrams that leave or arrive several in one message, on every backend, with and without each feature.
#include <gtest/gtest.h>
#include <netinet/udp.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "core/datagram_socket.h"
#include "core/limits.h"
#include "core/udp_offload.h"
#include "reactor_fixture.h"

namespace tunnel::core {
namespace {

using testing::BackendCase;
using testing::Pattern;
using testing::ReactorTest;

// Every way of receiving datagrams, with both features, with each of them, and with none.
std::vector<BackendCase> OffloadCases() {
  std::vector<BackendCase> cases;
  for (const BackendCase& backend : testing::BackendCases()) {
    const bool receives_in_its_own_way =
        backend.name == "epoll" || backend.name == "uring" || backend.name == "uring_without_multishot_datagrams";
    if (!receives_in_its_own_way) continue;
    for (const std::vector<std::string>& disabled :
         std::vector<std::vector<std::string>>{{}, {"udp-gso"}, {"udp-gro"}, {"udp-gso", "udp-gro"}}) {
      BackendCase with = backend;
      for (const std::string& feature : disabled) {
        with.name += feature == "udp-gso" ? "_no_gso" : "_no_gro";
        with.options.backend_options.disabled_features.push_back(feature);
      }
      cases.push_back(with);
    }
  }
  return cases;
}

struct Arrived {
  SocketAddress from;
  Slice data;
};

class KeepingInbox final : public DatagramSocket::Handler {
 public:
  explicit KeepingInbox(Reactor& reactor) : reactor_(reactor) {}
  void OnDatagram(const SocketAddress& from, Slice data) override {
    buffers.push_back(data.buffer());
    arrived.push_back({from, hold ? reactor_.buffers().ForHolding(std::move(data)) : std::move(data)});
    if (on_datagram) on_datagram();
  }
  void OnSocketError(IoError error) override { ADD_FAILURE() << ToString(error); }
  [[nodiscard]] std::vector<std::string> Texts() const {
    std::vector<std::string> texts;
    for (const Arrived& one : arrived) texts.emplace_back(one.data.text());
    return texts;
  }

  std::vector<Arrived> arrived;
  std::vector<const Buffer*> buffers;
  bool hold = true;
  std::function<void()> on_datagram;

 private:
  Reactor& reactor_;
};

// A socket of plain system calls that sends and receives several datagrams as one message.
class SegmentPeer {
 public:
  explicit SegmentPeer(bool v6) : descriptor_(socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    const SocketAddress any = *SocketAddress::Parse(v6 ? "::1" : "127.0.0.1", 0);
    EXPECT_EQ(bind(descriptor_, any.kernel(), any.kernel_length()), 0);
    const int bytes = kDatagramSocketBufferBytes;
    (void)setsockopt(descriptor_, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
  }
  SegmentPeer(const SegmentPeer&) = delete;
  SegmentPeer& operator=(const SegmentPeer&) = delete;
  ~SegmentPeer() { close(descriptor_); }

  [[nodiscard]] int descriptor() const { return descriptor_; }
  [[nodiscard]] SocketAddress address() const {
    sockaddr_storage storage{};
    socklen_t length = sizeof(storage);
    (void)getsockname(descriptor_, reinterpret_cast<sockaddr*>(&storage), &length);
    return SocketAddress::FromKernel(reinterpret_cast<const sockaddr*>(&storage), length);
  }
  void Send(const SocketAddress& to, std::string text, size_t segment) const {
    iovec vector{text.data(), text.size()};
    msghdr message{};
    message.msg_name = const_cast<sockaddr*>(to.kernel());
    message.msg_namelen = to.kernel_length();
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    SegmentControl control;
    if (segment < text.size()) control.Attach(message, segment);
    EXPECT_EQ(sendmsg(descriptor_, &message, 0), static_cast<ssize_t>(text.size())) << std::strerror(errno);
  }
  // The next message and the size of its datagrams, 0 for a single one; nullopt when nothing is there.
  [[nodiscard]] std::optional<std::pair<std::string, size_t>> Receive() const {
    std::string text(kMaxDatagramBytes, '\0');
    iovec vector{text.data(), text.size()};
    alignas(cmsghdr) std::array<uint8_t, kDatagramControlBytes> control{};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t got = recvmsg(descriptor_, &message, MSG_DONTWAIT);
    if (got < 0) return std::nullopt;
    text.resize(static_cast<size_t>(got));
    return std::pair(text, CoalescedSize(message));
  }

 private:
  int descriptor_;
};

class DatagramOffloadTest : public ReactorTest {
 protected:
  DatagramSocket Open(bool v6 = false) {
    auto socket = DatagramSocket::Open(reactor(), *SocketAddress::Parse(v6 ? "::1" : "127.0.0.1", 0));
    EXPECT_TRUE(socket.ok()) << MessageOf(socket.status());
    return *std::move(socket);
  }
  [[nodiscard]] bool uses(std::string_view feature) {
    return reactor().backend().Describe().find(feature) != std::string::npos;
  }
};
INSTANTIATE_TEST_SUITE_P(Backends, DatagramOffloadTest, ::testing::ValuesIn(OffloadCases()), testing::CaseName);

TEST_P(DatagramOffloadTest, IsInUseUnlessSwitchedOff) {
  const UdpOffload here = ProbeUdpOffload({});
  const std::vector<std::string>& disabled = GetParam().options.backend_options.disabled_features;
  const auto is_disabled = [&](std::string_view name) {
    return std::find(disabled.begin(), disabled.end(), name) != disabled.end();
  };
  EXPECT_EQ(uses("udp-gso"), here.segmentation && !is_disabled("udp-gso"));
  EXPECT_EQ(uses("udp-gro"), here.coalescing && !is_disabled("udp-gro"));
}

TEST_P(DatagramOffloadTest, ABurstLeavesAsOneMessage) {
  for (const bool v6 : {false, true}) {
    const SegmentPeer peer(v6);
    if (!EnableCoalescing(peer.descriptor())) GTEST_SKIP() << "this kernel does not say what is one message";
    DatagramSocket socket = Open(v6);
    std::string all;
    for (size_t i = 0; i < 20; ++i) {
      const std::string text = Pattern::Text(i, i == 19 ? 7 : 1200);
      all += text;
      socket.SendTo(peer.address(), Bytes(text));
    }
    Settle();
    const auto first = peer.Receive();
    ASSERT_TRUE(first.has_value());
    EXPECT_EQ(first->first, uses("udp-gso") ? all : all.substr(0, 1200));
    EXPECT_EQ(first->second, uses("udp-gso") ? 1200U : 0U);
    EXPECT_EQ(reactor().counters().datagrams_sent.Get(), v6 ? 40 : 20);
    EXPECT_EQ(reactor().counters().datagrams_unsent.Get(), 0);
  }
}

TEST_P(DatagramOffloadTest, WhoDoesNotCoalesceSeesEveryDatagram) {
  const SegmentPeer peer(false);
  const SegmentPeer other(false);
  DatagramSocket socket = Open();
  std::vector<std::string> sent;
  for (const size_t size : {100, 100, 100, 50, 100, 0, 100, 100, 9000, 9000, 1, 1, 1}) {
    sent.push_back(Pattern::Text(sent.size(), size));
    socket.SendTo(peer.address(), Bytes(sent.back()));
    if (sent.size() % 5 == 0) socket.SendTo(other.address(), Bytes("between"));
  }
  Settle();
  for (const std::string& expected : sent) {
    const auto got = peer.Receive();
    ASSERT_TRUE(got.has_value());
    EXPECT_EQ(got->first, expected);
    EXPECT_EQ(got->second, 0U);
  }
  EXPECT_EQ(peer.Receive(), std::nullopt);
  EXPECT_EQ(other.Receive()->first, "between");
  EXPECT_EQ(other.Receive()->first, "between");
}

TEST_P(DatagramOffloadTest, OneMessageIsDeliveredAsItsDatagrams) {
  if (!ProbeUdpOffload({}).segmentation) GTEST_SKIP() << "this kernel does not segment";
  for (const bool v6 : {false, true}) {
    DatagramSocket socket = Open(v6);
    KeepingInbox inbox(reactor());
    inbox.hold = false;
    socket.Start(inbox);
    const SegmentPeer peer(v6);
    const std::string text = Pattern::Text(0, size_t{50} * 1200 + 5);
    peer.Send(socket.local_address(), text, 1200);
    peer.Send(socket.local_address(), "alone", 1200);
    ASSERT_TRUE(RunUntil([&] { return inbox.arrived.size() == 52; }));
    std::string together;
    for (size_t i = 0; i < 51; ++i) {
      EXPECT_EQ(inbox.arrived[i].data.size(), i == 50 ? 5U : 1200U);
      EXPECT_EQ(inbox.arrived[i].from, peer.address());
      together += inbox.arrived[i].data.text();
    }
    EXPECT_EQ(together, text);
    EXPECT_EQ(inbox.arrived[51].data.text(), "alone") << "what a message before said is not said of this one";
    if (uses("udp-gro")) {
      EXPECT_EQ(inbox.buffers[0], inbox.buffers[50]) << "slices of one buffer, not copies";
    }
  }
  EXPECT_EQ(reactor().counters().datagrams_received.Get(), 104);
  EXPECT_EQ(reactor().counters().datagram_errors.Get(), 0);
}

TEST_P(DatagramOffloadTest, BothEndsOfOurs) {
  constexpr size_t kBurst = 150;
  DatagramSocket one = Open();
  DatagramSocket two = Open();
  KeepingInbox inbox(reactor());
  two.Start(inbox);
  std::vector<std::string> sent;
  for (size_t round = 0; round < 6; ++round) {
    const size_t size = std::array<size_t, 6>{1, 100, 1200, 1452, 3000, 30000}[round];
    for (size_t i = 0; i < kBurst; ++i) {
      // Now and then one of another size.
      sent.push_back(Pattern::Text(sent.size() * 7, i % 37 == 5 ? size / 2 : size));
      one.SendTo(two.local_address(), Bytes(sent.back()));
      if (size > 3000 || i % 50 == 49) {
        ASSERT_TRUE(RunUntil([&] { return inbox.arrived.size() == sent.size(); })) << size << " " << i;
      }
    }
  }
  EXPECT_EQ(inbox.Texts(), sent);
}

TEST_P(DatagramOffloadTest, MoreMessagesThanBuffersWhileAllIsKept) {
  if (!ProbeUdpOffload({}).segmentation) GTEST_SKIP() << "this kernel does not segment";
  constexpr size_t kMessages = 3 * size_t{kDatagramBuffers};
  constexpr size_t kSegments = 8;
  DatagramSocket socket = Open();
  KeepingInbox inbox(reactor());
  socket.Start(inbox);
  const SegmentPeer peer(false);
  for (size_t i = 0; i < kMessages; ++i) {
    peer.Send(socket.local_address(), Pattern::Text(i * 100, kSegments * 100), 100);
    if (i % 8 == 7) {
      ASSERT_TRUE(RunUntil([&] { return inbox.arrived.size() == (i + 1) * kSegments; }));
    }
  }
  for (size_t i = 0; i < inbox.arrived.size(); ++i) {
    const size_t offset = i / kSegments * 100 + i % kSegments * 100;
    ASSERT_EQ(inbox.arrived[i].data.text(), Pattern::Text(offset, 100)) << i;
  }
}

TEST_P(DatagramOffloadTest, MayBeClosedInTheMiddleOfAMessage) {
  if (!ProbeUdpOffload({}).segmentation) GTEST_SKIP() << "this kernel does not segment";
  DatagramSocket socket = Open();
  KeepingInbox inbox(reactor());
  inbox.on_datagram = [&] {
    if (inbox.arrived.size() == 3) socket.Close();
  };
  const SocketAddress address = socket.local_address();
  socket.Start(inbox);
  const SegmentPeer peer(false);
  peer.Send(address, Pattern::Text(0, 1000), 100);
  ASSERT_TRUE(RunUntil([&] { return reactor().counters().sockets_open.Get() == 0; }));
  EXPECT_EQ(inbox.arrived.size(), 3U);
}

TEST(UdpOffload, SaysWhatItDoes) {
  EXPECT_EQ((UdpOffload{}).Describe(), "udp-gso udp-gro");
  EXPECT_EQ((UdpOffload{.segmentation = false}).Describe(), "udp-gro");
  EXPECT_EQ((UdpOffload{.segmentation = false, .coalescing = false}).Describe(), "");
}

TEST(UdpOffload, OtherControlMessagesAreNotMistaken) {
  alignas(cmsghdr) std::array<uint8_t, 64> control{};
  msghdr message{};
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  EXPECT_EQ(CoalescedSize(message), 0U) << "a length of zero ends it";
  auto* const header = reinterpret_cast<cmsghdr*>(control.data());
  const auto put = [&](int level, int type, size_t length, int value) {
    header->cmsg_level = level;
    header->cmsg_type = type;
    header->cmsg_len = length;
    std::memcpy(CMSG_DATA(header), &value, sizeof(value));
  };
  put(SOL_UDP, UDP_GRO, CMSG_LEN(sizeof(int)), 1200);
  EXPECT_EQ(CoalescedSize(message), 1200U);
  put(SOL_SOCKET, UDP_GRO, CMSG_LEN(sizeof(int)), 1200);
  EXPECT_EQ(CoalescedSize(message), 0U);
  put(SOL_UDP, UDP_GRO, CMSG_LEN(1), 1200);
  EXPECT_EQ(CoalescedSize(message), 0U);
  put(SOL_UDP, UDP_GRO, CMSG_LEN(sizeof(int)), -1);
  EXPECT_EQ(CoalescedSize(message), 0U);
  message.msg_controllen = 0;
  put(SOL_UDP, UDP_GRO, CMSG_LEN(sizeof(int)), 1200);
  EXPECT_EQ(CoalescedSize(message), 0U);
}

}  // namespace
}  // namespace tunnel::core
