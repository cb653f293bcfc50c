#include "core/listener.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <list>

#include "core/check.h"
#include "reactor_fixture.h"

namespace tunnel::core {
namespace {

using std::chrono::milliseconds;
using testing::RawPeer;
using testing::ReactorTest;
using testing::Recorder;

const SocketAddress kLoopback = SocketAddress::V4({127, 0, 0, 1}, 0);

class ListenerTest : public ReactorTest {
 protected:
  Listener Open(Listener::Accepted accepted, const SocketAddress& address = kLoopback) {
    auto listener = Listener::Open(reactor(), address, false, std::move(accepted));
    EXPECT_TRUE(listener.ok()) << listener.status();
    return *std::move(listener);
  }
};
TUNNEL_FOR_EVERY_BACKEND_AND_SIM(ListenerTest);

TEST_P(ListenerTest, AcceptsOneAfterAnother) {
  std::list<StreamSocket> accepted;
  std::vector<std::string> peers;
  const Listener listener = Open([&](StreamSocket socket, const SocketAddress& peer) {
    accepted.push_back(std::move(socket));
    peers.push_back(peer.ip());
  });
  std::list<RawPeer> clients;
  for (int i = 0; i < 100; ++i) {
    clients.push_back(RawPeer::ConnectTo(listener.local_address()));
    if (i % 10 == 0) Settle();
  }
  ASSERT_TRUE(RunUntil([&] { return accepted.size() == 100; }));
  EXPECT_EQ(peers, std::vector<std::string>(100, "127.0.0.1"));
  EXPECT_EQ(reactor().counters().connections_accepted.Get(), 100);
  if (testing::World() != nullptr) return;
  int flags = 0;
  for (int descriptor = 3; descriptor < 400; ++descriptor) {
    // Every connection is non-blocking and does not survive exec.
    sockaddr_storage storage{};
    socklen_t length = sizeof(storage);
    if (getpeername(descriptor, reinterpret_cast<sockaddr*>(&storage), &length) != 0) continue;
    EXPECT_NE(fcntl(descriptor, F_GETFL) & O_NONBLOCK, 0);
    EXPECT_NE(fcntl(descriptor, F_GETFD) & FD_CLOEXEC, 0);
    ++flags;
  }
  EXPECT_GE(flags, 200);
}

TEST_P(ListenerTest, ClosingInsideTheCallbackIsTheLastCall) {
  int calls = 0;
  std::optional<Listener> listener;
  listener.emplace(Open([&](StreamSocket, const SocketAddress&) {
    ++calls;
    listener.reset();
  }));
  const SocketAddress address = listener->local_address();
  std::list<RawPeer> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(RawPeer::ConnectTo(address));
  ASSERT_TRUE(RunUntil([&] { return reactor().counters().sockets_open.Get() == 0; }));
  EXPECT_EQ(calls, 1);
  // Those that were in the queue learn of it.
  for (RawPeer& client : clients) ASSERT_TRUE(RunUntil([&] { return !client.Pump(); }));
}

TEST_P(ListenerTest, ClosingWithConnectionsWaiting) {
  Listener listener = Open([](StreamSocket, const SocketAddress&) { FAIL(); });
  Settle();
  std::list<RawPeer> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(RawPeer::ConnectTo(listener.local_address()));
  listener.Close();
  ASSERT_TRUE(RunUntil([&] { return reactor().counters().sockets_open.Get() == 0; }));
  for (RawPeer& client : clients) ASSERT_TRUE(RunUntil([&] { return !client.Pump(); }));
}

TEST_P(ListenerTest, SaysWhyItCannotListen) {
  const Listener first = Open([](StreamSocket, const SocketAddress&) {});
  auto second = Listener::Open(reactor(), first.local_address(), false, [](StreamSocket, const SocketAddress&) {});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(MessageOf(second.status()),
            "listen on " + first.local_address().ToString() + ": " + std::string(ToString(IoError::kAddressInUse)));
  auto foreign = Listener::Open(reactor(), SocketAddress::V4({203, 0, 113, 1}, 0), false,
                                [](StreamSocket, const SocketAddress&) {});
  EXPECT_FALSE(foreign.ok());
}

TEST_P(ListenerTest, PortsCanBeShared) {
  int accepted = 0;
  const auto count = [&](StreamSocket, const SocketAddress&) { ++accepted; };
  auto first = Listener::Open(reactor(), kLoopback, true, count);
  ASSERT_TRUE(first.ok());
  auto second = Listener::Open(reactor(), first->local_address(), true, count);
  ASSERT_TRUE(second.ok()) << second.status();
  std::list<RawPeer> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(RawPeer::ConnectTo(first->local_address()));
  ASSERT_TRUE(RunUntil([&] { return accepted == 20; }));
}

TEST_P(ListenerTest, RunningOutOfDescriptorsIsWaitedOut) {
  std::list<StreamSocket> accepted;
  const Listener listener =
      Open([&](StreamSocket socket, const SocketAddress&) { accepted.push_back(std::move(socket)); });
  // No turn yet: io_uring takes the limit that holds when an accept is armed.
  std::list<RawPeer> clients;
  for (int i = 0; i < 5; ++i) clients.push_back(RawPeer::ConnectTo(listener.local_address()));
  if (testing::World() != nullptr) {
    SimNetwork& network = testing::World()->network();
    network.SetDescriptorsLeft(testing::kTestHost, 0);
    const int64_t simulated_turns = TurnsWithin(milliseconds(350), 30);
    network.SetDescriptorsLeft(testing::kTestHost, std::nullopt);
    EXPECT_LE(simulated_turns, 30) << "spins";
    EXPECT_TRUE(accepted.empty());
    ASSERT_TRUE(RunUntil([&] { return accepted.size() == 5; }));
    return;
  }
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int lowest_free = dup(0);
  ASSERT_GE(lowest_free, 0);
  close(lowest_free);
  const rlimit tight = {.rlim_cur = static_cast<rlim_t>(lowest_free), .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
  const int64_t turns = TurnsWithin(milliseconds(350), 30);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_LE(turns, 30) << "spins";
  EXPECT_TRUE(accepted.empty());
  ASSERT_TRUE(RunUntil([&] { return accepted.size() == 5; }));
  // And goes on.
  clients.push_back(RawPeer::ConnectTo(listener.local_address()));
  ASSERT_TRUE(RunUntil([&] { return accepted.size() == 6; }));
}

class ConnectTest : public ListenerTest {
 protected:
  // An address that answers nothing: a listener whose queue is full.
  SocketAddress BlackHole() {
    // In the world: a host that does not exist.
    if (testing::World() != nullptr) return *SocketAddress::Parse("192.0.2.2", 80);
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    TUNNEL_CHECK(bind(listener, kLoopback.kernel(), kLoopback.kernel_length()) == 0 && listen(listener, 0) == 0);
    SocketAddress address = reactor().backend().LocalAddress(listener);
    held_.push_back(listener);
    for (int i = 0; i < 4; ++i) {
      held_.push_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      (void)connect(held_.back(), address.kernel(), address.kernel_length());
    }
    return address;
  }
  void TearDown() override {
    for (const int descriptor : held_) close(descriptor);
    ListenerTest::TearDown();
  }
  std::vector<int> held_;
};
TUNNEL_FOR_EVERY_BACKEND_AND_SIM(ConnectTest);

Task<void> Dial(Reactor* reactor, SocketAddress address, absl::StatusOr<StreamSocket>* result, Duration limit) {
  TaskContext& context = co_await CurrentTask();
  const DeadlineGuard guard(context, limit);
  *result = co_await Connect(*reactor, address);
}

TEST_P(ConnectTest, ReachesAListener) {
  std::list<StreamSocket> accepted;
  std::vector<SocketAddress> peers;
  std::vector<SocketAddress> addresses = {kLoopback};
  if (SocketAddress::Parse("::1", 0).has_value()) addresses.push_back(*SocketAddress::Parse("::1", 0));
  for (const SocketAddress& address : addresses) {
    auto listener = Listener::Open(reactor(), address, false, [&](StreamSocket socket, const SocketAddress& peer) {
      accepted.push_back(std::move(socket));
      peers.push_back(peer);
    });
    if (!listener.ok() && address.is_v6()) continue;  // a machine without IPv6
    ASSERT_TRUE(listener.ok()) << listener.status();
    absl::StatusOr<StreamSocket> result = absl::UnknownError("");
    Scope scope(reactor());
    const size_t before = accepted.size();
    scope.Spawn(Dial(&reactor(), listener->local_address(), &result, testing::kPatience));
    ASSERT_TRUE(RunUntil([&] { return scope.empty() && accepted.size() > before; }));
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->peer_address(), listener->local_address());
    EXPECT_EQ(result->local_address(), peers.back());
    Recorder recorder;
    StreamSocket server = std::move(accepted.back());
    server.SetHandler(&recorder);
    result->Send(Bytes("hello"));
    ASSERT_TRUE(RunUntil([&] { return recorder.received == "hello"; }));
  }
}

TEST_P(ConnectTest, IsRefused) {
  SocketAddress address;
  {
    address = Open([](StreamSocket, const SocketAddress&) {}).local_address();
  }
  ASSERT_TRUE(RunUntil([&] { return reactor().counters().sockets_open.Get() == 0; }));
  absl::StatusOr<StreamSocket> result = absl::UnknownError("");
  Scope scope(reactor());
  scope.Spawn(Dial(&reactor(), address, &result, testing::kPatience));
  ASSERT_TRUE(RunUntil([&] { return scope.empty(); }));
  EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(MessageOf(result.status()), "connect to " + address.ToString() + ": connection refused");
}

TEST_P(ConnectTest, CanBeCancelledAtAnyMoment) {
  const SocketAddress address = BlackHole();
  for (int turns = 0; turns < 4; ++turns) {
    absl::StatusOr<StreamSocket> result = absl::UnknownError("");
    Scope scope(reactor());
    scope.Spawn(Dial(&reactor(), address, &result, testing::kPatience));
    for (int i = 0; i < turns; ++i) reactor().Turn(reactor().backend().Now());
    EXPECT_FALSE(scope.empty());
    scope.Cancel();
    ASSERT_TRUE(RunUntil([&] { return scope.empty(); }));
    EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  }
  absl::StatusOr<StreamSocket> result = absl::UnknownError("");
  Scope scope(reactor());
  scope.Cancel();
  scope.Spawn(Dial(&reactor(), address, &result, testing::kPatience));
  EXPECT_TRUE(scope.empty());
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
}

TEST_P(ConnectTest, EndsAtItsDeadline) {
  const SocketAddress address = BlackHole();
  absl::StatusOr<StreamSocket> result = absl::UnknownError("");
  Scope scope(reactor());
  scope.Spawn(Dial(&reactor(), address, &result, milliseconds(20)));
  ASSERT_TRUE(RunUntil([&] { return scope.empty(); }));
  EXPECT_EQ(result.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(MessageOf(result.status()), "connect to " + address.ToString() + ": timed out");
}

TEST_P(ConnectTest, CancelRacesSuccess) {
  std::list<StreamSocket> accepted;
  const Listener listener =
      Open([&](StreamSocket socket, const SocketAddress&) { accepted.push_back(std::move(socket)); });
  for (int turns = 0; turns < 6; ++turns) {
    absl::StatusOr<StreamSocket> result = absl::UnknownError("");
    Scope scope(reactor());
    scope.Spawn(Dial(&reactor(), listener.local_address(), &result, testing::kPatience));
    for (int i = 0; i < turns; ++i) reactor().Turn(reactor().backend().Now());
    scope.Cancel();
    ASSERT_TRUE(RunUntil([&] { return scope.empty(); }));
    EXPECT_TRUE(result.ok() || result.status().code() == absl::StatusCode::kCancelled) << result.status();
  }
}

}  // namespace
}  // namespace tunnel::core
