// Non-blocking sockets of IPv4 and the loop that waits for them. One thread. Whatever fails throws.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace tunnel::bench {

using Clock = std::chrono::steady_clock;

class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept;
  ~Socket() { Close(); }

  int fd() const { return fd_; }
  bool open() const { return fd_ >= 0; }
  explicit operator bool() const { return open(); }
  void Close();

  // The name of the algorithm this connection uses.
  std::string CongestionControl() const;
  // What a connect that was started has come to.
  void CheckConnected() const;
  // Keeps what the kernel holds for a reader that does not read at about so much.
  void LimitReceiveBuffer(int bytes) const;
  // Bytes that could be received now.
  size_t Waiting() const;
  // For messages that a fresh or drained send buffer holds: all of it or an exception.
  void SendAll(std::span<const uint8_t> bytes) const;
  // Returns 0 when there is nothing to read now; the end of the stream is an exception.
  size_t Receive(std::span<uint8_t> into) const;

 private:
  int fd_ = -1;
};

// Where to listen or connect.
struct Endpoint {
  uint32_t address = 0x7F000001;  // 127.0.0.1
  uint16_t port = 0;
};
// Dotted; nothing when it is not an IPv4 address.
std::optional<uint32_t> ParseAddress(const std::string& text);

// Port 0 lets the kernel choose one; `at` is what it came to.
Socket Listen(Endpoint& at);
// Returns before the connection is there: the socket gets writable.
Socket StartConnect(const Endpoint& to);
// Empty when there is none to accept.
Socket Accept(const Socket& listener);

class Handler {
 public:
  virtual ~Handler() = default;
  virtual void OnReady() = 0;
};

// Level-triggered epoll. A handler must outlive its watch; closing the descriptor ends that.
class Loop {
 public:
  enum class Wait : uint8_t { kReadable, kWritable };

  Loop();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void Watch(const Socket& socket, Wait wait, Handler& handler) const;
  void Change(const Socket& socket, Wait wait, Handler& handler) const;
  // Its handler is not run any more.
  void Ignore(const Socket& socket) const;
  // Runs the handlers of what is ready; waits for that at most until `until`. False when a signal came instead.
  bool Turn(Clock::time_point until) const;

 private:
  int epoll_ = -1;
};

}  // namespace tunnel::bench
