#include "bench/load/target.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <list>
#include <optional>
#include <span>
#include <stdexcept>
#include <system_error>
#include <utility>
#include <vector>

#include "bench/load/blocks.h"
#include "bench/load/sockets.h"
#include "bench/load/wire.h"

namespace tunnel::bench {
namespace {

volatile std::sig_atomic_t stop_requested = 0;

// When the current run's first block came. Runs follow one another, so one is remembered.
struct Run {
  uint64_t id = 0;
  std::optional<Clock::time_point> started;
};

class Connection final : public Handler {
 public:
  Connection(const Loop& loop, Socket socket, Run& run) : loop_(loop), socket_(std::move(socket)), run_(run) {
    loop_.Watch(socket_, Loop::Wait::kReadable, *this);
  }

  bool closed() const { return !socket_.open(); }
  bool failed() const { return failed_; }

  void OnReady() override {
    try {
      Step();
    } catch (const std::exception& error) {
      fmt::print(stderr, "target: {}\n", error.what());
      failed_ = true;
      socket_.Close();
    }
  }

 private:
  enum class State { kHello, kUpload, kGo, kDownload, kFlood, kAnswer, kEnd };

  void Step() {
    switch (state_) {
      case State::kHello:
        return ReadHello();
      case State::kUpload:
        return ReceiveUpload();
      case State::kGo: {
        uint8_t go = 0;
        if (socket_.Receive({&go, 1}) == 0) return;
        ends_ = Clock::now() + std::chrono::milliseconds(hello_.duration_ms);
        state_ = State::kDownload;
        return loop_.Change(socket_, Loop::Wait::kWritable, *this);
      }
      case State::kDownload:
        if (sender_.Send(socket_.fd(), Clock::now() >= ends_) == Progress::kMore) return;
        state_ = State::kEnd;
        return loop_.Change(socket_, Loop::Wait::kReadable, *this);
      case State::kFlood:
        return Flood();
      case State::kAnswer:
        return Answer();
      case State::kEnd:
        if (ReceiveOrEnd({buffer_.data(), 1}) > 0) throw std::runtime_error("more bytes than were announced");
        return;
    }
  }

  // Where the application may close: 0 for nothing to read now, or for the end, when the socket is closed.
  size_t ReceiveOrEnd(std::span<uint8_t> into) {
    const ssize_t received = recv(socket_.fd(), into.data(), into.size(), 0);
    if (received > 0) return static_cast<size_t>(received);
    // A tunnel may well reset what its application has closed.
    if (received == 0 || errno == ECONNRESET) {
      socket_.Close();
    } else if (errno != EAGAIN && errno != EINTR) {
      throw std::system_error(errno, std::generic_category(), "receiving");
    }
    return 0;
  }

  void ReadHello() {
    have_ += ReceiveOrEnd({reinterpret_cast<uint8_t*>(&hello_) + have_, sizeof(hello_) - have_});
    if (closed() || have_ < sizeof(hello_)) return;
    have_ = 0;
    if (hello_.magic != kHelloMagic) throw std::runtime_error("the first bytes are not a hello");
    if (hello_.mode == Mode::kAnswer) {
      if (hello_.size == 0 || hello_.size > kAnswerLimitBytes) throw std::runtime_error("a hello with a bad size");
      buffer_.resize(hello_.size);
      state_ = State::kAnswer;
      return Answer();
    }
    if (hello_.mode == Mode::kFlood) {
      buffer_.resize(kBlockBytes);
      state_ = State::kFlood;
      return loop_.Change(socket_, Loop::Wait::kWritable, *this);
    }
    if (hello_.mode != Mode::kUpload && hello_.mode != Mode::kDownload) throw std::runtime_error("an unknown mode");
    state_ = hello_.mode == Mode::kUpload ? State::kUpload : State::kGo;
    if (run_.id != hello_.run) run_ = {.id = hello_.run, .started = std::nullopt};
    socket_.SendAll({&kReady, 1});
  }

  void ReceiveUpload() {
    if (run_.id != hello_.run) throw std::runtime_error("two runs at a time");
    const auto now = Clock::now();
    if (!run_.started) run_.started = now;
    const Progress progress = receiver_.Receive(socket_.fd());
    if (now < *run_.started + std::chrono::milliseconds(hello_.duration_ms)) window_bytes_ = receiver_.total_bytes();
    if (progress == Progress::kMore) return;
    const Report report{.total_bytes = receiver_.total_bytes(), .window_bytes = window_bytes_};
    state_ = State::kEnd;
    socket_.SendAll({reinterpret_cast<const uint8_t*>(&report), sizeof(report)});
  }

  // The application goes without having read it all.
  void Flood() {
    if (send(socket_.fd(), buffer_.data(), buffer_.size(), MSG_NOSIGNAL) >= 0) return;
    if (errno == ECONNRESET || errno == EPIPE) {
      socket_.Close();
    } else if (errno != EAGAIN && errno != EINTR) {
      throw std::system_error(errno, std::generic_category(), "flooding");
    }
  }

  void Answer() {
    have_ += ReceiveOrEnd({buffer_.data() + have_, hello_.size - have_});
    if (closed() || have_ < hello_.size) return;
    have_ = 0;
    socket_.SendAll({buffer_.data(), hello_.size});
  }

  const Loop& loop_;
  Socket socket_;
  Run& run_;
  State state_ = State::kHello;
  Hello hello_;
  size_t have_ = 0;
  BlockSender sender_;
  BlockReceiver receiver_;
  uint64_t window_bytes_ = 0;
  Clock::time_point ends_;
  bool failed_ = false;
  std::vector<uint8_t> buffer_ = std::vector<uint8_t>(1);  // one request
};

class Target final : public Handler {
 public:
  explicit Target(const Endpoint& at) : at_(at), listener_(Listen(at_)) {
    loop_.Watch(listener_, Loop::Wait::kReadable, *this);
  }

  uint16_t port() const { return at_.port; }

  void OnReady() override {
    while (Socket socket = Accept(listener_)) connections_.emplace_back(loop_, std::move(socket), run_);
  }

  // Returns whether every connection was as it should be.
  bool Serve() {
    bool good = true;
    while (stop_requested == 0) {
      loop_.Turn(Clock::now() + std::chrono::seconds(1));
      std::erase_if(connections_, [&good](const Connection& connection) {
        good = good && !connection.failed();
        return connection.closed();
      });
    }
    return good;
  }

 private:
  Endpoint at_;
  Loop loop_;
  Socket listener_;
  Run run_;
  std::list<Connection> connections_;
};

}  // namespace

int RunTarget(const Endpoint& at) {
  struct sigaction action{};
  action.sa_handler = [](int) { stop_requested = 1; };
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  Target target(at);
  fmt::print("{{\"port\": {}}}\n", target.port());
  std::fflush(stdout);
  return target.Serve() ? 0 : 1;
}

}  // namespace tunnel::bench
