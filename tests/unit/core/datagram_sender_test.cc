// How datagrams become messages, and what happens where the way out does not cut them, with a sendmmsg of the test's.
#include "core/datagram_sender.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <string>

namespace tunnel::core {
namespace {

// What the kernel was given, and what it says to that. One thread, one test at a time.
struct FakeWay {
  std::vector<std::vector<size_t>> taken;  // sizes, by message
  size_t calls = 0;
  size_t refused = 0;
  // The error of a message, 0 to take it. `segment` is 0 for a single datagram.
  std::function<int(const mmsghdr& message, size_t segment)> judge = [](const mmsghdr&, size_t) { return 0; };
};
FakeWay* fake_way = nullptr;

size_t SegmentOf(const msghdr& header) { return header.msg_controllen == 0 ? 0 : header.msg_iov[0].iov_len; }

int FakeSendMessages(int descriptor, mmsghdr* messages, unsigned count, int flags) {
  (void)descriptor;
  EXPECT_NE(flags & MSG_DONTWAIT, 0);
  ++fake_way->calls;
  for (unsigned i = 0; i < count; ++i) {
    const msghdr& header = messages[i].msg_hdr;
    if (const int error = fake_way->judge(messages[i], SegmentOf(header)); error != 0) {
      ++fake_way->refused;
      if (i > 0) return static_cast<int>(i);
      errno = error;
      return -1;
    }
    std::vector<size_t> sizes;
    messages[i].msg_len = 0;
    for (size_t k = 0; k < header.msg_iovlen; ++k) {
      sizes.push_back(header.msg_iov[k].iov_len);
      messages[i].msg_len += static_cast<unsigned>(header.msg_iov[k].iov_len);
    }
    fake_way->taken.push_back(sizes);
  }
  return static_cast<int>(count);
}

class DatagramSenderTest : public ::testing::Test {
 protected:
  DatagramSenderTest() { fake_way = &way_; }
  ~DatagramSenderTest() override { fake_way = nullptr; }

  // Datagrams of these sizes to `to`, or on a connected socket.
  void Add(const std::vector<size_t>& sizes, const SocketAddress* to = nullptr) {
    for (const size_t size : sizes) {
      datagrams_.push_back({.to = to, .payload = std::span(bytes_).first(size)});
    }
  }
  DatagramsSent Send(int descriptor = 7) {
    way_.taken.clear();
    const DatagramsSent result = sender_.Send(descriptor, datagrams_);
    datagrams_.clear();
    return result;
  }
  static std::vector<size_t> Times(size_t count, size_t size) { return std::vector<size_t>(count, size); }

  using Messages = std::vector<std::vector<size_t>>;
  FakeWay way_;
  DatagramSender sender_{true, &FakeSendMessages};
  const std::vector<uint8_t> bytes_ = std::vector<uint8_t>(kMaxDatagramBytes);
  std::vector<OutgoingDatagram> datagrams_;
};

TEST_F(DatagramSenderTest, EqualSizesGoTogetherAndAShorterOneEndsThem) {
  Add({5, 5, 3, 5, 5, 0, 5, 9, 8, 8});
  const DatagramsSent result = Send();
  EXPECT_EQ(way_.taken, (Messages{{5, 5, 3}, {5, 5}, {0}, {5}, {9, 8}, {8}}));
  EXPECT_EQ(result.sent, 10U);
  EXPECT_EQ(result.bytes, 53U);
  EXPECT_EQ(way_.calls, 1U);
}

TEST_F(DatagramSenderTest, AddressesAreKeptApart) {
  const SocketAddress one = SocketAddress::V4({192, 0, 2, 1}, 1);
  const SocketAddress same = one;
  const SocketAddress port = SocketAddress::V4({192, 0, 2, 1}, 2);
  const SocketAddress six = SocketAddress::V6({1}, 1);
  Add({5}, &one);
  Add({5}, &same);
  Add({5, 5}, &port);
  Add({5}, &six);
  Add({5}, &one);
  (void)Send();
  EXPECT_EQ(way_.taken, (Messages{{5, 5}, {5, 5}, {5}, {5}}));
}

TEST_F(DatagramSenderTest, AMessageIsNoLongerThanAPacketCanBe) {
  Add(Times(60, 1200));
  Add({65507, 1});
  const DatagramsSent result = Send();
  EXPECT_EQ(way_.taken, (Messages{Times(54, 1200), Times(6, 1200), {65507}, {1}}));
  EXPECT_EQ(result.sent, 62U);
}

TEST_F(DatagramSenderTest, NoMoreThanTheKernelTakesInOneMessage) {
  Add(Times(200, 10));
  EXPECT_EQ(Send().sent, 200U);
  EXPECT_EQ(way_.taken, (Messages{Times(64, 10), Times(64, 10), Times(64, 10), Times(8, 10)}));
}

TEST_F(DatagramSenderTest, SwitchedOffEveryDatagramIsAMessage) {
  DatagramSender plain(false, &FakeSendMessages);
  Add({5, 5, 5});
  EXPECT_EQ(plain.Send(7, datagrams_).sent, 3U);
  EXPECT_EQ(way_.taken, (Messages{{5}, {5}, {5}}));
}

TEST_F(DatagramSenderTest, ADeviceWithoutOffloadLosesNothingAndIsRemembered) {
  way_.judge = [](const mmsghdr&, size_t segment) { return segment > 0 ? EIO : 0; };
  Add({9, 5, 5, 3, 5, 5});
  const DatagramsSent result = Send();
  EXPECT_EQ(way_.taken, (Messages{{9}, {5}, {5}, {3}, {5}, {5}})) << "all, in order";
  EXPECT_EQ(result.sent, 6U);
  EXPECT_EQ(result.bytes, 32U);
  way_.refused = 0;
  Add({5, 5});
  EXPECT_EQ(Send().sent, 2U);
  EXPECT_EQ(way_.refused, 0U) << "it was not tried again";
  Add({5, 5});
  EXPECT_EQ(Send(8).sent, 2U);
  EXPECT_GT(way_.refused, 0U) << "another socket may have another way out";
  way_.refused = 0;
  sender_.Forget(7);
  Add({5, 5});
  EXPECT_EQ(Send().sent, 2U);
  EXPECT_GT(way_.refused, 0U) << "the number belongs to another socket now";
}

TEST_F(DatagramSenderTest, WhatThePathDoesNotTakeInOnePieceIsALimit) {
  for (const int error : {EINVAL, EMSGSIZE}) {
    sender_.Forget(7);
    way_.judge = [error](const mmsghdr&, size_t segment) { return segment > 1472 ? error : 0; };
    Add(Times(3, 2000));
    EXPECT_EQ(Send().sent, 3U);
    EXPECT_EQ(way_.taken, (Messages{{2000}, {2000}, {2000}}));
    way_.refused = 0;
    Add(Times(3, 2000));
    Add(Times(3, 1400));
    EXPECT_EQ(Send().sent, 6U);
    EXPECT_EQ(way_.taken, (Messages{{2000}, {2000}, {2000}, {1400, 1400, 1400}}));
    EXPECT_EQ(way_.refused, 0U);
  }
}

TEST_F(DatagramSenderTest, ABadAddressTeachesNothing) {
  const SocketAddress bad = SocketAddress::V4({192, 0, 2, 1}, 0);
  const SocketAddress good = SocketAddress::V4({192, 0, 2, 1}, 1);
  way_.judge = [&](const mmsghdr& message, size_t) { return message.msg_hdr.msg_name == bad.kernel() ? EINVAL : 0; };
  Add({5, 5}, &good);
  Add({5, 5}, &bad);
  Add({5, 5}, &good);
  EXPECT_EQ(Send().sent, 4U);
  EXPECT_EQ(way_.taken, (Messages{{5, 5}, {5, 5}}));
}

TEST_F(DatagramSenderTest, AnIcmpErrorOfBeforeCostsNothing) {
  int left = 1;
  way_.judge = [&](const mmsghdr&, size_t) { return left-- > 0 ? ECONNREFUSED : 0; };
  Add({5, 5, 5});
  EXPECT_EQ(Send().sent, 3U);
  EXPECT_EQ(way_.taken, (Messages{{5, 5, 5}}));
}

TEST_F(DatagramSenderTest, AFullSocketEndsIt) {
  way_.judge = [&](const mmsghdr&, size_t) { return way_.taken.size() == 2 ? EAGAIN : 0; };
  Add({9, 5, 5, 9, 5, 5});
  EXPECT_EQ(Send().sent, 3U);
  EXPECT_EQ(way_.taken, (Messages{{9, 5}, {5}})) << "what came before";
  // While what cannot be cut goes out one by one, too.
  way_.judge = [&](const mmsghdr&, size_t segment) { return segment > 0 ? EIO : way_.taken.size() == 2 ? EAGAIN : 0; };
  Add({5, 5, 5, 5});
  EXPECT_EQ(Send().sent, 2U);
}

// The kernel itself refuses to cut for a socket that wants no checksums.
TEST(DatagramSender, TheKernelsRefusalLosesNothing) {
  const int from = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const int to = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const SocketAddress loopback = SocketAddress::V4({127, 0, 0, 1}, 0);
  ASSERT_EQ(bind(to, loopback.kernel(), loopback.kernel_length()), 0);
  sockaddr_storage storage{};
  socklen_t length = sizeof(storage);
  ASSERT_EQ(getsockname(to, reinterpret_cast<sockaddr*>(&storage), &length), 0);
  const SocketAddress address = SocketAddress::FromKernel(reinterpret_cast<sockaddr*>(&storage), length);
  const int on = 1;
  ASSERT_EQ(setsockopt(from, SOL_SOCKET, SO_NO_CHECK, &on, sizeof(on)), 0);

  DatagramSender sender(true);
  const std::string texts = "aaaabbbbcc";
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(texts.data()), texts.size());
  const std::vector<OutgoingDatagram> datagrams = {{.to = &address, .payload = bytes.first(4)},
                                                   {.to = &address, .payload = bytes.subspan(4, 4)},
                                                   {.to = &address, .payload = bytes.subspan(8)}};
  for (int round = 0; round < 2; ++round) {
    const DatagramsSent result = sender.Send(from, datagrams);
    EXPECT_EQ(result.sent, 3U);
    EXPECT_EQ(result.bytes, 10U);
    for (const char* const expected : {"aaaa", "bbbb", "cc"}) {
      std::array<char, 16> got{};
      const ssize_t size = recv(to, got.data(), got.size(), 0);
      ASSERT_GT(size, 0);
      EXPECT_EQ(std::string(got.data(), static_cast<size_t>(size)), expected);
    }
  }
  close(from);
  close(to);
}

}  // namespace
}  // namespace tunnel::core
