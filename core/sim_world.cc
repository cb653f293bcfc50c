#include "core/sim_world.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "core/sim_backend.h"

namespace tunnel::core {
namespace {

// A monotonic clock starts somewhere; dates are those of a Friday in 2026.
constexpr TimePoint kSimStart = TimePoint(std::chrono::hours(1));
constexpr int64_t kSimWallStart = 1'790'000'000;
// Turns in a row in which a reactor had nothing to do but woke all the same.
constexpr unsigned kSpinTurns = 20'000;

}  // namespace

SimWorld::SimWorld(const SimOptions& options)
    : options_(options),
      random_(options.seed),
      fault_random_(random_.Fork()),
      trace_(options.trace_lines),
      now_(kSimStart),
      network_(std::make_unique<SimNetwork>(*this, options.stream_buffer_bytes)) {}

SimWorld::~SimWorld() { TUNNEL_CHECK(backends_.empty()); }

TimePoint SimWorld::start() const { return kSimStart; }

int64_t SimWorld::wall_seconds() const {
  return kSimWallStart + std::chrono::duration_cast<std::chrono::seconds>(now_ - kSimStart).count();
}

std::unique_ptr<Reactor> SimWorld::MakeReactor(SimHost host, unsigned index) {
  auto pool = std::make_unique<BufferPool>();
  auto backend = std::make_unique<SimBackend>(*this, host, ++backends_made_, *pool);
  SimBackend& made = *backend;
  auto reactor = std::make_unique<Reactor>(std::move(pool), std::move(backend), index, "", &epochs_);
  made.set_reactor(*reactor);
  return reactor;
}

SimBackend& SimWorld::BackendOf(const Reactor& reactor) const {
  const auto found = std::find_if(backends_.begin(), backends_.end(),
                                  [&](const SimBackend* backend) { return &backend->reactor() == &reactor; });
  TUNNEL_CHECK(found != backends_.end());
  return **found;
}

// --- events ---

void SimWorld::At(TimePoint when, absl::AnyInvocable<void()> call) {
  events_.push_back({.when = when, .order = ++orders_, .call = std::move(call)});
  std::push_heap(events_.begin(), events_.end(), Later());
}

void SimWorld::RunDue() {
  while (!events_.empty() && events_.front().when <= now_) {
    std::pop_heap(events_.begin(), events_.end(), Later());
    absl::AnyInvocable<void()> call = std::move(events_.back().call);
    events_.pop_back();
    call();
  }
}

void SimWorld::Advance(TimePoint limit) {
  TUNNEL_CHECK(!running_);
  const TimePoint next = events_.empty() ? limit : std::min(limit, events_.front().when);
  TUNNEL_CHECK(next != kNever);  // nothing will ever happen
  now_ = std::max(now_, next);
  RunDue();
}

SimWorld::Ended SimWorld::Run(const std::function<bool()>& done, TimePoint limit) {
  TUNNEL_CHECK(!running_);
  running_ = true;
  // Their owners may have given them something to do since.
  for (SimBackend* backend : backends_) backend->Wake();
  Ended ended = Ended::kDone;
  std::vector<SimBackend*> runnable;
  for (;;) {
    RunDue();
    if (done()) break;
    runnable.clear();
    TimePoint next = events_.empty() ? limit : std::min(limit, events_.front().when);
    for (SimBackend* backend : backends_) {
      const TimePoint turn = backend->NextTurn();
      if (turn <= now_) {
        runnable.push_back(backend);
      } else {
        next = std::min(next, turn);
      }
    }
    if (runnable.empty()) {
      if (next >= limit) {
        now_ = std::max(now_, limit);
        ended = Ended::kLimit;
        break;
      }
      now_ = next;
      continue;
    }
    if (now_ >= limit) {
      ended = Ended::kLimit;
      break;
    }
    SimBackend& backend = *runnable[random_.Below(runnable.size())];
    backend.reactor().Turn(kNever);
    if (backend.empty_turns() > kSpinTurns) {
      ended = Ended::kSpins;
      break;
    }
    now_ += Duration(static_cast<int64_t>(random_.Below(static_cast<uint64_t>(options_.turn_cost.count()))));
  }
  running_ = false;
  return ended;
}

// --- faults ---

void SimWorld::Jump(Duration by) {
  now_ += by;
  Count(SimFault::kClockJump);
  Trace(SimEvent::kJump, 0, static_cast<uint64_t>(by.count() / 1000), 0);
}

void SimWorld::Stall(const Reactor& reactor, Duration by) {
  SimBackend& backend = BackendOf(reactor);
  backend.StallUntil(now_ + by);
  Count(SimFault::kStall);
  Trace(SimEvent::kStall, backend.number(), static_cast<uint64_t>(by.count() / 1000), 0);
}

void SimWorld::LimitBuffers(const Reactor& reactor, std::optional<unsigned> buffers) {
  SimBackend& backend = BackendOf(reactor);
  backend.LimitBuffers(buffers);
  if (buffers.has_value()) Count(SimFault::kNoBuffers);
  Trace(SimEvent::kSqueeze, backend.number(), buffers.value_or(0), buffers.has_value() ? 1 : 0);
}

int SimWorld::DrawFailure(SimFault call, SimHost host) {
  if (!network_->faulty(host)) return 0;
  const SimChaos& chaos = options_.chaos;
  const bool chosen = ++calls_ == chaos.fail_call;
  if (!chosen && (!chaos.failing.test(static_cast<size_t>(call)) || !fault_random_.Chance(chaos.call_fails))) return 0;
  const std::span<const int> errnos = SimErrnosOf(call);
  const int error = errnos[fault_random_.Below(errnos.size())];
  Count(call);
  Trace(SimEvent::kCallFails, static_cast<uint64_t>(host), static_cast<uint64_t>(call), static_cast<uint64_t>(error));
  return error;
}

}  // namespace tunnel::core
