#include "bench/load/requests.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <fstream>
#include <list>
#include <optional>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/load/sockets.h"
#include "bench/load/wire.h"

namespace tunnel::bench {
namespace {

using SocksRequest = std::array<uint8_t, 10>;

constexpr std::array<uint8_t, 3> kSocksGreeting = {5, 1, 0};
// Little, so that what stalls a stream is the tunnel's own window.
constexpr int kStalledBufferBytes = 64 * 1024;
// Nothing moves: no more than acknowledgements and pings.
constexpr uint64_t kStallNoiseBytes = 32'768;
constexpr auto kStallQuiet = std::chrono::milliseconds(700);
constexpr auto kStallLimit = std::chrono::seconds(20);
constexpr size_t kSocksChoiceBytes = 2;
constexpr size_t kSocksReplyBytes = 10;  // with an IPv4 address

SocksRequest ConnectToLoopback(uint16_t port) {
  return {5, 1, 0, 1, 127, 0, 0, 1, static_cast<uint8_t>(port >> 8), static_cast<uint8_t>(port)};
}

class Worker final : public Handler {
 public:
  Worker(const Loop& loop, const RequestOptions& options, RequestResult& result, uint32_t number)
      : loop_(loop), options_(options), result_(result) {
    const Hello hello{.mode = Mode::kAnswer, .size = options.size};
    request_.resize(sizeof(hello) + options.size);
    std::memcpy(request_.data(), &hello, sizeof(hello));
    for (size_t i = sizeof(hello); i < request_.size(); ++i) request_[i] = static_cast<uint8_t>(i * 31 + number);
    answer_.resize(std::max<size_t>(options.size, kSocksReplyBytes));
  }

  // When its next request is due; nothing while one is under way.
  std::optional<Clock::time_point> due() const {
    if (state_ != State::kIdle) return std::nullopt;
    return due_;
  }

  void Begin() {
    started_ = Clock::now();
    if (socket_.open()) return SendRequest(Payload());
    socket_ = StartConnect(options_.to);
    state_ = State::kConnecting;
    loop_.Watch(socket_, Loop::Wait::kWritable, *this);
  }

  void OnReady() override {
    switch (state_) {
      case State::kIdle:
        if (socket_.Receive({answer_.data(), 1}) > 0) throw std::runtime_error("an answer that nobody asked for");
        return;
      case State::kConnecting:
        socket_.CheckConnected();
        loop_.Change(socket_, Loop::Wait::kReadable, *this);
        if (options_.socks_target_port == 0) return SendRequest(request_);
        socket_.SendAll(kSocksGreeting);
        return Expect(State::kSocksChoice);
      case State::kSocksChoice:
        if (!Receive(kSocksChoiceBytes)) return;
        if (answer_[0] != 5 || answer_[1] != 0) throw std::runtime_error("the proxy wants to know a user");
        asked_ = Clock::now();
        SendConnect();
        return Expect(State::kSocksReply);
      case State::kSocksReply:
        if (!Receive(kSocksReplyBytes)) return;
        if (answer_[1] != 0 || answer_[3] != 1) throw std::runtime_error("the proxy did not connect");
        result_.replies_ns.push_back(std::chrono::nanoseconds(Clock::now() - asked_).count());
        if (options_.optimistic) return Expect(State::kAnswer);
        return SendRequest(request_);
      case State::kAnswer:
        if (Receive(options_.size)) Finish();
        return;
    }
  }

 private:
  enum class State { kIdle, kConnecting, kSocksChoice, kSocksReply, kAnswer };

  std::span<uint8_t> Payload() { return std::span(request_).subspan(sizeof(Hello)); }

  void Expect(State state) {
    state_ = state;
    have_ = 0;
  }

  bool Receive(size_t size) {
    have_ += socket_.Receive({answer_.data() + have_, size - have_});
    return have_ == size;
  }

  void SendConnect() {
    const SocksRequest connect = ConnectToLoopback(options_.socks_target_port);
    std::vector<uint8_t> bytes(connect.begin(), connect.end());
    if (options_.optimistic) bytes.insert(bytes.end(), request_.begin(), request_.end());
    socket_.SendAll(bytes);
  }

  // The first request of a connection goes with the hello in front.
  void SendRequest(std::span<const uint8_t> bytes) {
    socket_.SendAll(bytes);
    Expect(State::kAnswer);
  }

  void Finish() {
    const auto now = Clock::now();
    result_.latencies_ns.push_back(std::chrono::nanoseconds(now - started_).count());
    if (asked_ > started_) result_.opens_ns.push_back(std::chrono::nanoseconds(now - asked_).count());
    if (!std::ranges::equal(Payload(), std::span(answer_).first(options_.size))) {
      throw std::runtime_error("an answer is not the request's bytes");
    }
    if (result_.congestion_control.empty()) result_.congestion_control = socket_.CongestionControl();
    if (!options_.reuse) socket_.Close();
    // The next request is another one.
    ++Payload()[0];
    due_ = now + std::chrono::microseconds(options_.interval_us);
    state_ = State::kIdle;
  }

  const Loop& loop_;
  const RequestOptions& options_;
  RequestResult& result_;
  Socket socket_;
  State state_ = State::kIdle;
  std::vector<uint8_t> request_;  // hello and payload
  std::vector<uint8_t> answer_;
  size_t have_ = 0;  // of what is expected
  Clock::time_point due_;
  Clock::time_point started_;
  Clock::time_point asked_;  // for a connection, of the proxy
};

// Is sent to and does not read.
class Stalled final : public Handler {
 public:
  Stalled(const Loop& loop, const Endpoint& to) : loop_(loop), socket_(StartConnect(to)) {
    socket_.LimitReceiveBuffer(kStalledBufferBytes);
    loop_.Watch(socket_, Loop::Wait::kWritable, *this);
  }
  void OnReady() override {
    if (greeted_) return;
    socket_.CheckConnected();
    const Hello hello{.mode = Mode::kFlood};
    socket_.SendAll({reinterpret_cast<const uint8_t*>(&hello), sizeof(hello)});
    greeted_ = true;
    loop_.Ignore(socket_);
  }
  size_t waiting() const { return greeted_ ? socket_.Waiting() : 0; }

 private:
  const Loop& loop_;
  Socket socket_;
  bool greeted_ = false;
};

// What this network namespace has received so far, whoever in it.
uint64_t ReceivedBytes() {
  std::ifstream file("/proc/net/netstat");
  std::string names;
  std::string values;
  while (std::getline(file, names) && std::getline(file, values)) {
    if (!names.starts_with("IpExt:")) continue;
    std::istringstream name_words(names);
    std::istringstream value_words(values);
    std::string name;
    std::string value;
    while (name_words >> name && value_words >> value) {
      if (name == "InOctets") return std::stoull(value);
    }
  }
  throw std::runtime_error("/proc/net/netstat has no InOctets");
}

// Until each of them has been sent something, and then nothing moves for a while: a tunnel may go on filling its
// windows long after the application's own buffer is full.
void WaitUntilStalled(const Loop& loop, const std::list<Stalled>& stalled) {
  const auto deadline = Clock::now() + kStallLimit;
  auto quiet_since = Clock::now();
  uint64_t before = 0;
  for (;;) {
    const auto now = Clock::now();
    const bool all = std::ranges::all_of(stalled, [](const Stalled& one) { return one.waiting() > 0; });
    const uint64_t received = ReceivedBytes();
    if (!all || received > before + kStallNoiseBytes) {
      quiet_since = now;
      before = received;
    }
    if (now - quiet_since >= kStallQuiet) return;
    if (now >= deadline) throw std::runtime_error("gave up waiting for streams to stall");
    loop.Turn(now + std::chrono::milliseconds(10));
  }
}

}  // namespace

RequestResult RunRequests(const RequestOptions& options) {
  const Loop loop;
  RequestResult result;
  std::list<Stalled> stalled;
  for (uint32_t i = 0; i < options.stalled; ++i) stalled.emplace_back(loop, options.to);
  if (!stalled.empty()) WaitUntilStalled(loop, stalled);
  std::list<Worker> workers;
  for (uint32_t i = 0; i < options.workers; ++i) workers.emplace_back(loop, options, result, i);

  const auto started = Clock::now();
  const auto ends = started + std::chrono::milliseconds(options.duration_ms);
  const auto deadline = ends + std::chrono::milliseconds(options.grace_ms);
  for (;;) {
    const auto now = Clock::now();
    if (now >= deadline) throw std::runtime_error("gave up waiting for answers");
    auto next = deadline;
    bool busy = false;
    for (Worker& worker : workers) {
      if (const auto due = worker.due(); due && now < ends) {
        if (*due <= now) {
          worker.Begin();
        } else {
          next = std::min(next, *due);
        }
      }
      busy = busy || !worker.due();
    }
    if (now >= ends && !busy) break;
    loop.Turn(std::min(next, now < ends ? ends : deadline));
  }
  result.elapsed_seconds = std::chrono::duration<double>(Clock::now() - started).count();
  return result;
}

}  // namespace tunnel::bench
