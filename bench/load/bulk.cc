#include "bench/load/bulk.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <list>
#include <stdexcept>

#include "bench/load/blocks.h"
#include "bench/load/sockets.h"
#include "bench/load/wire.h"

namespace tunnel::bench {
namespace {

class Stream final : public Handler {
 public:
  Stream(const Loop& loop, const BulkOptions& options, uint64_t run)
      : loop_(loop), options_(options), socket_(StartConnect(options.to)) {
    hello_.mode = options.direction == Direction::kUp ? Mode::kUpload : Mode::kDownload;
    hello_.run = run;
    hello_.duration_ms = options.duration_ms;
    loop_.Watch(socket_, Loop::Wait::kWritable, *this);
  }

  bool ready() const { return state_ == State::kReady; }
  bool done() const { return state_ == State::kDone; }
  uint64_t window_bytes() const { return report_.window_bytes; }
  uint64_t total_bytes() const { return report_.total_bytes; }
  const Socket& socket() const { return socket_; }

  // The other end has said that it is there.
  void Start(Clock::time_point ends) {
    ends_ = ends;
    if (options_.direction == Direction::kUp) {
      state_ = State::kUpload;
      return loop_.Change(socket_, Loop::Wait::kWritable, *this);
    }
    state_ = State::kDownload;
    socket_.SendAll({&kGo, 1});
  }

  void OnReady() override {
    switch (state_) {
      case State::kConnecting:
        socket_.CheckConnected();
        socket_.SendAll({reinterpret_cast<const uint8_t*>(&hello_), sizeof(hello_)});
        state_ = State::kGreeted;
        return loop_.Change(socket_, Loop::Wait::kReadable, *this);
      case State::kGreeted: {
        uint8_t answer = 0;
        if (socket_.Receive({&answer, 1}) == 0) return;
        if (answer != kReady) throw std::runtime_error("the target's first byte is not its own");
        state_ = State::kReady;
        return;
      }
      case State::kReady: {
        uint8_t byte = 0;
        if (socket_.Receive({&byte, 1}) > 0) throw std::runtime_error("the target sent before it was asked to");
        return;
      }
      case State::kUpload:
        if (sender_.Send(socket_.fd(), Clock::now() >= ends_) == Progress::kMore) return;
        state_ = State::kReport;
        return loop_.Change(socket_, Loop::Wait::kReadable, *this);
      case State::kReport:
        return ReceiveReport();
      case State::kDownload:
        return ReceiveDownload();
      case State::kDone:
        return;
    }
  }

 private:
  enum class State { kConnecting, kGreeted, kReady, kUpload, kReport, kDownload, kDone };

  void ReceiveReport() {
    have_ += socket_.Receive({reinterpret_cast<uint8_t*>(&report_) + have_, sizeof(report_) - have_});
    if (have_ < sizeof(report_)) return;
    if (report_.total_bytes != sender_.total_bytes()) {
      throw std::runtime_error(
          fmt::format("{} bytes were sent and {} arrived", sender_.total_bytes(), report_.total_bytes));
    }
    Finish();
  }

  void ReceiveDownload() {
    const Progress progress = receiver_.Receive(socket_.fd());
    if (Clock::now() < ends_) report_.window_bytes = receiver_.total_bytes();
    if (progress == Progress::kMore) return;
    report_.total_bytes = receiver_.total_bytes();
    Finish();
  }

  void Finish() {
    state_ = State::kDone;
    socket_.Close();
  }

  const Loop& loop_;
  const BulkOptions& options_;
  Socket socket_;
  State state_ = State::kConnecting;
  Hello hello_;
  BlockSender sender_;
  BlockReceiver receiver_;
  Report report_;
  size_t have_ = 0;  // of the report
  Clock::time_point ends_;
};

}  // namespace

BulkResult RunBulk(const BulkOptions& options) {
  const Loop loop;
  std::list<Stream> streams;
  const auto begun = Clock::now();
  const auto run = static_cast<uint64_t>(begun.time_since_epoch().count()) ^ (static_cast<uint64_t>(getpid()) << 40);
  for (uint32_t i = 0; i < options.streams; ++i) streams.emplace_back(loop, options, run);

  const auto until = [&](auto condition, Clock::time_point deadline, const char* what) {
    while (!std::ranges::all_of(streams, condition)) {
      if (Clock::now() >= deadline) throw std::runtime_error(fmt::format("gave up waiting for {}", what));
      loop.Turn(deadline);
    }
  };
  const auto grace = std::chrono::milliseconds(options.grace_ms);
  until([](const Stream& stream) { return stream.ready(); }, begun + grace, "every stream to reach the target");

  BulkResult result;
  result.congestion_control = streams.front().socket().CongestionControl();
  const auto started = Clock::now();
  const auto ends = started + std::chrono::milliseconds(options.duration_ms);
  for (Stream& stream : streams) stream.Start(ends);
  until([](const Stream& stream) { return stream.done(); }, ends + grace, "every byte to arrive");

  result.elapsed_seconds = std::chrono::duration<double>(Clock::now() - started).count();
  for (const Stream& stream : streams) {
    result.window_bytes.push_back(stream.window_bytes());
    result.total_bytes += stream.total_bytes();
  }
  return result;
}

}  // namespace tunnel::bench
