// What the tests of core/ share: every backend as a test parameter, raw TCP peers, and bytes that check themselves.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/reactor.h"
#include "core/sim_world.h"
#include "core/stream_socket.h"

namespace tunnel::core::testing {

inline constexpr Duration kPatience = std::chrono::seconds(60);

struct BackendCase {
  std::string name;
  ReactorOptions options;
  std::optional<SimOptions> sim = {};  // a simulated world instead
};

// epoll, io_uring, io_uring without each of its optional features, and without any.
std::vector<BackendCase> BackendCases();
// Those, and simulated worlds: one that is as calm as loopback, and some that do by the dice what real backends may do.
std::vector<BackendCase> BackendCasesWithSim();
inline void PrintTo(const BackendCase& backend, std::ostream* out) { *out << backend.name; }
inline std::string CaseName(const ::testing::TestParamInfo<BackendCase>& info) { return info.param.name; }

// Null when this kernel refuses the backend. All reactors of one test share one simulated world.
std::unique_ptr<Reactor> MakeReactor(const BackendCase& backend);

// The world of the test that runs, of which all is one host; null on a real backend.
SimWorld* World();
inline constexpr SimHost kTestHost{0};

// A test with one reactor, which must have let go of every socket and buffer when the test has.
class ReactorTest : public ::testing::TestWithParam<BackendCase> {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Turns until `done`, at most for kPatience; says whether it came.
  [[nodiscard]] bool RunUntil(const std::function<bool()>& done);
  // Turns without waiting until what is there has been dealt with.
  void Settle();
  // Runs for `window` and returns how many turns that took, again for as long as it took more than `enough`.
  [[nodiscard]] int64_t TurnsWithin(Duration window, int64_t enough);

  [[nodiscard]] Reactor& reactor() { return *reactor_; }
  [[nodiscard]] Slice Bytes(std::string_view text) { return reactor_->buffers().Copy(text); }

  std::unique_ptr<Reactor> reactor_;
};

#define TUNNEL_FOR_EVERY_BACKEND(suite)                                                                   \
  INSTANTIATE_TEST_SUITE_P(Backends, suite, ::testing::ValuesIn(::tunnel::core::testing::BackendCases()), \
                           ::tunnel::core::testing::CaseName)

#define TUNNEL_FOR_EVERY_BACKEND_AND_SIM(suite)                                                                  \
  INSTANTIATE_TEST_SUITE_P(Backends, suite, ::testing::ValuesIn(::tunnel::core::testing::BackendCasesWithSim()), \
                           ::tunnel::core::testing::CaseName)

// A connected pair of non-blocking TCP descriptors over loopback, in the world if there is one.
std::pair<int, int> TcpPair();

// The far end of a connection, driven by plain system calls that never block, or by those of the world.
class RawPeer {
 public:
  explicit RawPeer(int descriptor) : descriptor_(descriptor) {}
  RawPeer(RawPeer&& other) noexcept;
  RawPeer& operator=(RawPeer&&) = delete;
  ~RawPeer() { Close(); }

  // Connects to `address` at once: loopback only.
  static RawPeer ConnectTo(const SocketAddress& address);

  // Sends as much of `text` as the kernel takes and returns how much.
  size_t SendSome(std::string_view text) const;
  // Sends all of `text`, which must fit the kernel's buffers.
  void Send(std::string_view text) const;
  // Reads what is there into `received`; true while the connection lives.
  bool Pump();
  void FinishSend() const;
  void Close();
  // Closes so that the other end sees a reset.
  void Reset();

  std::string received;
  bool ended = false;
  int error = 0;  // errno that ended it

 private:
  int descriptor_;
};

// A UDP socket of plain system calls, or of those of the world.
class RawDatagramPeer {
 public:
  explicit RawDatagramPeer(const SocketAddress& bind_to);
  RawDatagramPeer(const RawDatagramPeer&) = delete;
  RawDatagramPeer& operator=(const RawDatagramPeer&) = delete;
  ~RawDatagramPeer();

  [[nodiscard]] SocketAddress address() const;
  void SendTo(const SocketAddress& to, std::string_view text) const;
  // nullopt when nothing is there.
  [[nodiscard]] std::optional<std::string> Receive() const;

 private:
  int descriptor_;
};

// An endless sequence of bytes whose every position is known, so that a transfer's contents are checked as it goes.
class Pattern {
 public:
  static void Fill(uint64_t offset, std::span<uint8_t> out);
  [[nodiscard]] static bool Matches(uint64_t offset, std::span<const uint8_t> bytes);
  [[nodiscard]] static std::string Text(uint64_t offset, size_t size);
};

// Remembers what it is told; functions may be added to act on it.
class Recorder final : public StreamSocket::Handler {
 public:
  void OnReceive(Slice data) override;
  void OnReceiveEnd() override;
  void OnSendDrained() override;
  void OnSocketError(IoError error) override;

  std::string received;
  int calls = 0;
  int ends = 0;
  int drains = 0;
  std::optional<IoError> error;
  std::function<void(Slice&)> on_receive;
  std::function<void()> on_end;
  std::function<void()> on_drained;
  std::function<void()> on_error;
};

// Sends `total` bytes of the pattern as fast as the socket takes them.
class Source {
 public:
  Source(Reactor& reactor, StreamSocket& socket, uint64_t total, uint64_t offset = 0)
      : reactor_(reactor), socket_(socket), next_(offset), end_(offset + total) {}
  // Until the socket is full or all is queued. To be called at first and from OnSendDrained().
  void Push();
  [[nodiscard]] bool done() const { return next_ == end_; }

 private:
  Reactor& reactor_;
  StreamSocket& socket_;
  uint64_t next_;
  const uint64_t end_;
};

// Checks received bytes against the pattern.
class Sink {
 public:
  explicit Sink(uint64_t offset = 0) : next_(offset), first_(offset) {}
  void Take(std::span<const uint8_t> bytes);
  [[nodiscard]] uint64_t taken() const { return next_ - first_; }
  [[nodiscard]] bool sound() const { return sound_; }

 private:
  uint64_t next_;
  const uint64_t first_;
  bool sound_ = true;
};

}  // namespace tunnel::core::testing
