#include "reactor_fixture.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <random>

#include "core/check.h"
#include "core/limits.h"
#include "core/udp_offload.h"
#include "core/uring_features.h"

namespace tunnel::core::testing {
namespace {

// Longer than a prime, so that a block out of place does not look right.
constexpr size_t kPatternBytes = 1048583;

const std::vector<uint8_t>& PatternBytes() {
  static const std::vector<uint8_t> bytes = [] {
    std::mt19937_64 random(20260101);
    std::vector<uint8_t> made(kPatternBytes);
    for (uint8_t& byte : made) byte = static_cast<uint8_t>(random());
    return made;
  }();
  return bytes;
}

// Calls `visit` with each stretch of the pattern that covers [offset, offset + size).
template <typename Visit>
void ForStretches(uint64_t offset, size_t size, Visit visit) {
  for (size_t done = 0; done < size;) {
    const auto at = static_cast<size_t>((offset + done) % kPatternBytes);
    const size_t take = std::min(size - done, kPatternBytes - at);
    visit(done, PatternBytes().data() + at, take);
    done += take;
  }
}

SocketAddress NameOf(int descriptor) {
  sockaddr_storage storage{};
  socklen_t length = sizeof(storage);
  TUNNEL_CHECK(getsockname(descriptor, reinterpret_cast<sockaddr*>(&storage), &length) == 0);
  return SocketAddress::FromKernel(reinterpret_cast<const sockaddr*>(&storage), length);
}

// Made with a test's first reactor, and gone before the next test's.
std::unique_ptr<SimWorld>& CurrentWorld() {
  static std::unique_ptr<SimWorld> world;
  return world;
}

SimNetwork& Network() { return CurrentWorld()->network(); }

}  // namespace

SimWorld* World() { return CurrentWorld().get(); }

std::vector<BackendCase> BackendCasesWithSim() {
  std::vector<BackendCase> cases = BackendCases();
  cases.push_back({.name = "sim", .options = {}, .sim = SimOptions()});
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    SimOptions options{.seed = seed};
    options.chaos = {.short_receive = 300'000,
                     .short_send = 300'000,
                     .split_arrival = 300'000,
                     .late_completion = 50'000,
                     .late_cancel = 500'000,
                     .reorder = true};
    cases.push_back({.name = "sim_wild_" + std::to_string(seed), .options = {}, .sim = options});
  }
  return cases;
}

std::vector<BackendCase> BackendCases() {
  std::vector<BackendCase> cases;
  cases.push_back({.name = "epoll",
                   .options = {.backend = BackendChoice::kEpoll, .backend_options = {}, .congestion_control = {}}});
  BackendCase uring{.name = "uring",
                    .options = {.backend = BackendChoice::kUring, .backend_options = {}, .congestion_control = {}}};
  cases.push_back(uring);
  BackendCase bare = uring;
  bare.name = "uring_bare";
  for (const char* feature : UringFeatureNames()) {
    BackendCase without = uring;
    without.name = std::string("uring_without_") + feature;
    std::replace(without.name.begin(), without.name.end(), '-', '_');
    without.options.backend_options.disabled_features = {feature};
    cases.push_back(without);
    bare.options.backend_options.disabled_features.emplace_back(feature);
  }
  for (const char* feature : UdpOffloadNames()) bare.options.backend_options.disabled_features.emplace_back(feature);
  cases.push_back(bare);
  return cases;
}

std::unique_ptr<Reactor> MakeReactor(const BackendCase& backend) {
  if (backend.sim.has_value()) {
    std::unique_ptr<SimWorld>& world = CurrentWorld();
    if (world == nullptr) {
      world = std::make_unique<SimWorld>(*backend.sim);
      TUNNEL_CHECK(world->network().AddHost({*SocketAddress::Parse("192.0.2.1", 0)}) == kTestHost);
    }
    return world->MakeReactor(kTestHost, 0);
  }
  std::string note;
  auto made = Reactor::Create(backend.options, 0, note);
  if (!made.ok()) {
    // Only a kernel without io_uring excuses a backend.
    TUNNEL_CHECK(backend.options.backend == BackendChoice::kUring);
    return nullptr;
  }
  return *std::move(made);
}

void ReactorTest::SetUp() {
  CurrentWorld().reset();
  reactor_ = MakeReactor(GetParam());
  if (reactor_ == nullptr) GTEST_SKIP() << "this kernel refuses io_uring";
}

void ReactorTest::TearDown() {
  if (reactor_ == nullptr) return;
  const Counters& counters = reactor_->counters();
  EXPECT_TRUE(RunUntil([&] { return counters.sockets_open.Get() == 0 && counters.buffers_in_use.Get() == 0; }))
      << counters.sockets_open.Get() << " sockets and " << counters.buffers_in_use.Get() << " buffers are left";
  EXPECT_EQ(counters.buffer_bytes_in_use.Get(), 0);
}

bool ReactorTest::RunUntil(const std::function<bool()>& done) {
  Backend& backend = reactor_->backend();
  const TimePoint limit = backend.Now() + kPatience;
  while (!done()) {
    const TimePoint now = backend.Now();
    if (now >= limit) return false;
    // What a condition looks at may change inside the turn or outside the reactor, so waits are short.
    reactor_->Turn(std::min(limit, now + std::chrono::milliseconds(2)));
  }
  return true;
}

void ReactorTest::Settle() {
  for (int i = 0; i < 20; ++i) reactor_->Turn(reactor_->backend().Now());
}

int64_t ReactorTest::TurnsWithin(Duration window, int64_t enough) {
  Backend& backend = reactor_->backend();
  int64_t least = std::numeric_limits<int64_t>::max();
  // The kernel takes down the rings of earlier tests in its own time and interrupts this thread's waits for that.
  for (int attempt = 0; attempt < 5 && least > enough; ++attempt) {
    const TimePoint end = backend.Now() + window;
    const int64_t before = reactor_->counters().turns.Get();
    while (backend.Now() < end) reactor_->Turn(end);
    least = std::min(least, reactor_->counters().turns.Get() - before);
  }
  return least;
}

std::pair<int, int> TcpPair() {
  if (World() != nullptr) return Network().StreamPair(kTestHost);
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const SocketAddress any = SocketAddress::V4({127, 0, 0, 1}, 0);
  TUNNEL_CHECK(bind(listener, any.kernel(), any.kernel_length()) == 0 && listen(listener, 1) == 0);
  const SocketAddress bound = NameOf(listener);
  const int one = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  TUNNEL_CHECK(connect(one, bound.kernel(), bound.kernel_length()) == 0);
  const int other = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  TUNNEL_CHECK(other >= 0 && fcntl(one, F_SETFL, O_NONBLOCK) == 0);
  close(listener);
  return {one, other};
}

RawPeer::RawPeer(RawPeer&& other) noexcept
    : received(std::move(other.received)),
      ended(other.ended),
      error(other.error),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

RawPeer RawPeer::ConnectTo(const SocketAddress& address) {
  if (World() != nullptr) {
    int simulated = -1;
    TUNNEL_CHECK(Network().OpenStream(kTestHost, address.family(), simulated) == 0);
    TUNNEL_CHECK(Network().Connect(simulated, address) == EINPROGRESS);
    World()->RunDue();
    TUNNEL_CHECK(Network().ConnectResult(simulated) == 0);
    return RawPeer(simulated);
  }
  const int descriptor = socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
  TUNNEL_CHECK(descriptor >= 0);
  TUNNEL_CHECK(connect(descriptor, address.kernel(), address.kernel_length()) == 0);
  TUNNEL_CHECK(fcntl(descriptor, F_SETFL, O_NONBLOCK) == 0);
  const int on = 1;
  TUNNEL_CHECK(setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0);
  return RawPeer(descriptor);
}

size_t RawPeer::SendSome(std::string_view text) const {
  if (World() != nullptr) {
    World()->RunDue();
    const iovec vector = {.iov_base = const_cast<char*>(text.data()), .iov_len = text.size()};
    size_t taken = 0;
    const int failure = Network().Send(descriptor_, {&vector, 1}, text.size(), taken);
    return failure == 0 ? taken : 0;
  }
  const ssize_t sent = send(descriptor_, text.data(), text.size(), MSG_NOSIGNAL);
  return sent < 0 ? 0 : static_cast<size_t>(sent);
}

void RawPeer::Send(std::string_view text) const { TUNNEL_CHECK(SendSome(text) == text.size()); }

bool RawPeer::Pump() {
  std::array<char, 65536> buffer{};
  if (World() != nullptr) {
    World()->RunDue();
    while (!ended && error == 0) {
      size_t read = 0;
      const std::span room(reinterpret_cast<uint8_t*>(buffer.data()), buffer.size());
      const int failure = Network().Receive(descriptor_, room, read);
      if (failure == EAGAIN) return true;
      error = failure;
      ended = failure == 0 && read == 0;
      received.append(buffer.data(), read);
    }
    return false;
  }
  while (!ended && error == 0) {
    const ssize_t got = recv(descriptor_, buffer.data(), buffer.size(), 0);
    if (got > 0) {
      received.append(buffer.data(), static_cast<size_t>(got));
    } else if (got == 0) {
      ended = true;
    } else if (errno == EAGAIN) {
      return true;
    } else {
      error = errno;
    }
  }
  return false;
}

void RawPeer::FinishSend() const {
  if (World() != nullptr) {
    Network().ShutdownWrite(descriptor_);
  } else {
    TUNNEL_CHECK(shutdown(descriptor_, SHUT_WR) == 0);
  }
}

void RawPeer::Close() {
  if (World() != nullptr) {
    if (descriptor_ >= 0) Network().Close(std::exchange(descriptor_, -1));
    return;
  }
  if (descriptor_ >= 0) close(std::exchange(descriptor_, -1));
}

void RawPeer::Reset() {
  if (World() != nullptr) {
    Network().SetLingerReset(descriptor_);
    Close();
    return;
  }
  const linger now = {.l_onoff = 1, .l_linger = 0};
  TUNNEL_CHECK(setsockopt(descriptor_, SOL_SOCKET, SO_LINGER, &now, sizeof(now)) == 0);
  Close();
}

RawDatagramPeer::RawDatagramPeer(const SocketAddress& bind_to) : descriptor_(-1) {
  if (World() != nullptr) {
    EXPECT_EQ(Network().OpenDatagram(kTestHost, bind_to, descriptor_), 0);
    return;
  }
  descriptor_ = socket(bind_to.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(bind(descriptor_, bind_to.kernel(), bind_to.kernel_length()), 0) << std::strerror(errno);
  const int bytes = kDatagramSocketBufferBytes;
  (void)setsockopt(descriptor_, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
}

RawDatagramPeer::~RawDatagramPeer() {
  if (World() != nullptr) {
    Network().Close(descriptor_);
  } else {
    close(descriptor_);
  }
}

SocketAddress RawDatagramPeer::address() const {
  return World() != nullptr ? Network().LocalAddress(descriptor_) : NameOf(descriptor_);
}

void RawDatagramPeer::SendTo(const SocketAddress& to, std::string_view text) const {
  if (World() != nullptr) {
    EXPECT_EQ(Network().SendDatagram(descriptor_, &to, {reinterpret_cast<const uint8_t*>(text.data()), text.size()}),
              0);
    return;
  }
  EXPECT_EQ(sendto(descriptor_, text.data(), text.size(), 0, to.kernel(), to.kernel_length()),
            static_cast<ssize_t>(text.size()))
      << std::strerror(errno);
}

std::optional<std::string> RawDatagramPeer::Receive() const {
  std::string text(kMaxDatagramBytes, '\0');
  if (World() != nullptr) {
    World()->RunDue();
    size_t read = 0;
    SocketAddress from;
    bool truncated = false;
    const std::span room(reinterpret_cast<uint8_t*>(text.data()), text.size());
    if (Network().ReceiveDatagram(descriptor_, room, read, from, truncated) != 0) return std::nullopt;
    text.resize(read);
    return text;
  }
  const ssize_t got = recv(descriptor_, text.data(), text.size(), MSG_DONTWAIT);
  if (got < 0) return std::nullopt;
  text.resize(static_cast<size_t>(got));
  return text;
}

void Pattern::Fill(uint64_t offset, std::span<uint8_t> out) {
  ForStretches(offset, out.size(),
               [&](size_t at, const uint8_t* from, size_t size) { std::memcpy(out.data() + at, from, size); });
}

bool Pattern::Matches(uint64_t offset, std::span<const uint8_t> bytes) {
  bool same = true;
  ForStretches(offset, bytes.size(), [&](size_t at, const uint8_t* from, size_t size) {
    same = same && std::memcmp(bytes.data() + at, from, size) == 0;
  });
  return same;
}

std::string Pattern::Text(uint64_t offset, size_t size) {
  std::string text(size, '\0');
  Fill(offset, std::span(reinterpret_cast<uint8_t*>(text.data()), size));
  return text;
}

void Recorder::OnReceive(Slice data) {
  ++calls;
  received += data.text();
  if (on_receive) on_receive(data);
}

void Recorder::OnReceiveEnd() {
  ++ends;
  if (on_end) on_end();
}

void Recorder::OnSendDrained() {
  ++drains;
  if (on_drained) on_drained();
}

void Recorder::OnSocketError(IoError which) {
  EXPECT_FALSE(error.has_value()) << "the error is the last call";
  error = which;
  if (on_error) on_error();
}

void Source::Push() {
  while (next_ < end_ && socket_.writable()) {
    Slice block = reactor_.buffers().Allocate(BufferPool::kMaxBlockBytes);
    block.Truncate(std::min<uint64_t>(block.size(), end_ - next_));
    Pattern::Fill(next_, block.bytes());
    next_ += block.size();
    socket_.Send(std::move(block));
  }
}

void Sink::Take(std::span<const uint8_t> bytes) {
  sound_ = sound_ && Pattern::Matches(next_, bytes);
  next_ += bytes.size();
}

}  // namespace tunnel::core::testing
