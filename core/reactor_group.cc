#include "core/reactor_group.h"

#include <pthread.h>
#include <sched.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "core/log.h"

namespace tunnel::core {
namespace {

std::vector<int> UsableCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
    }
  }
  if (cpus.empty()) cpus.push_back(0);
  return cpus;
}

ReactorOptions WithEpochs(ReactorOptions options, EpochDomain& epochs) {
  options.epochs = &epochs;
  return options;
}

void PinTo(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  // Not being allowed to is no failure: the scheduler then decides.
  (void)pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

}  // namespace

struct ReactorGroup::Core {
  std::unique_ptr<Reactor> reactor;  // its own thread's, but for Wake() and counters()
  // From each core to this one; written by that core, read by this.
  std::vector<std::unique_ptr<Mailbox<Message, kMailboxMessages>>> from;
  // To each core, what did not fit its mailbox. This core's own.
  std::vector<std::deque<Message>> overflow;
  std::thread thread;
};

// Services are made one after another, and no core runs before all are made.
struct ReactorGroup::Start {
  std::mutex mutex;
  std::condition_variable changed;
  unsigned turn = 0;
  unsigned ended = 0;
  absl::Status status;
};

unsigned UsableCores() { return static_cast<unsigned>(UsableCpus().size()); }

ReactorGroup::ReactorGroup(ReactorOptions options, unsigned threads)
    : epochs_(threads + kSpareEpochParticipants),
      options_(WithEpochs(std::move(options), epochs_)),
      start_(std::make_unique<Start>()) {
  for (unsigned i = 0; i < threads; ++i) {
    auto core = std::make_unique<Core>();
    for (unsigned j = 0; j < threads; ++j) {
      core->from.push_back(std::make_unique<Mailbox<Message, kMailboxMessages>>());
    }
    core->overflow.resize(threads);
    cores_.push_back(std::move(core));
  }
}

ReactorGroup::~ReactorGroup() = default;

std::vector<const Counters*> ReactorGroup::counters() const {
  std::vector<const Counters*> all;
  const std::lock_guard lock(reactors_mutex_);
  for (const auto& core : cores_) {
    if (core->reactor != nullptr) all.push_back(&core->reactor->counters());
  }
  return all;
}

bool ReactorGroup::DrainMailboxes(unsigned index) {
  FlushOverflow(index);
  bool any = false;
  Message message;
  for (const auto& box : cores_[index]->from) {
    // No more than one box full: cores that answer each other must not keep this one from its sockets.
    size_t left = kMailboxMessages;
    for (; left > 0 && box->Pop(message); --left) {
      any = true;
      message();
      message = nullptr;
    }
    if (left == 0) cores_[index]->reactor->Wake();
  }
  return any;
}

void ReactorGroup::FlushOverflow(unsigned from) {
  for (unsigned to = 0; to < size(); ++to) {
    std::deque<Message>& waiting = cores_[from]->overflow[to];
    while (!waiting.empty() && cores_[to]->from[from]->Push(waiting.front())) {
      waiting.pop_front();
      cores_[to]->reactor->Wake();
    }
    // The other core is behind; look again in the next turn without waiting for an event.
    if (!waiting.empty()) cores_[from]->reactor->Wake();
  }
}

void ReactorGroup::Post(unsigned from, unsigned to, Message message) {
  std::deque<Message>& waiting = cores_[from]->overflow[to];
  const bool pushed = waiting.empty() && cores_[to]->from[from]->Push(message);
  if (!pushed) waiting.push_back(std::move(message));
  // A core that is not made yet looks into its boxes when it starts.
  if (cores_[to]->reactor != nullptr) cores_[to]->reactor->Wake();
  // What waits here is tried again in this core's next turn, which must come.
  if (!pushed && from != to) cores_[from]->reactor->Wake();
}

void ReactorGroup::StopAll() {
  stopping_.store(true, std::memory_order_release);
  const std::lock_guard lock(reactors_mutex_);
  for (const auto& core : cores_) {
    if (core->reactor != nullptr) core->reactor->Stop();
  }
}

void ReactorGroup::EndReactor(Core& core) {
  std::unique_ptr<Reactor> ending;
  {
    const std::lock_guard lock(reactors_mutex_);
    ending = std::move(core.reactor);
  }
}

void ReactorGroup::RunCore(unsigned index, MakeService& make) {
  Core& core = *cores_[index];
  const std::vector<int> cpus = UsableCpus();
  if (size() > 1 && size() <= cpus.size()) PinTo(cpus[index]);

  std::unique_ptr<CoreService> service;
  {
    std::unique_lock lock(start_->mutex);
    start_->changed.wait(lock, [&] { return start_->turn == index; });
    if (start_->status.ok()) {
      std::string note;
      auto reactor = Reactor::Create(options_, index, note);
      if (reactor.ok()) {
        {
          const std::lock_guard made(reactors_mutex_);
          core.reactor = *std::move(reactor);
          if (stopping_.load(std::memory_order_acquire)) core.reactor->Stop();
        }
        core.reactor->SetMailboxDrain([this, index] { return DrainMailboxes(index); });
        if (index == 0) {
          spdlog::info("reactor: {} on {} core{}, backend {}{}", size() == 1 ? "one" : std::to_string(size()), size(),
                       size() == 1 ? "" : "s", core.reactor->backend().Describe(),
                       note.empty() ? "" : fmt::format(" (io_uring refused: {})", note));
        }
        auto made = make(*core.reactor);
        if (made.ok()) {
          service = *std::move(made);
        } else {
          start_->status = made.status();
        }
      } else {
        start_->status = reactor.status();
      }
    }
    ++start_->turn;
    start_->changed.notify_all();
    start_->changed.wait(lock, [&] { return start_->turn == size(); });
  }
  if (start_->status.ok()) core.reactor->Run();
  service.reset();
  // A reactor is posted to and woken by others until the last of them has ended.
  std::unique_lock lock(start_->mutex);
  ++start_->ended;
  start_->changed.notify_all();
  start_->changed.wait(lock, [&] { return start_->ended == size(); });
  lock.unlock();
  // What waits in mailboxes may own sockets, so it goes before the reactor does.
  Message message;
  for (const auto& box : core.from) {
    while (box->Pop(message)) message = nullptr;
  }
  for (std::deque<Message>& waiting : core.overflow) waiting.clear();
  if (index != 0) EndReactor(core);
}

absl::Status ReactorGroup::Run(MakeService make) {
  for (unsigned i = 1; i < size(); ++i) cores_[i]->thread = std::thread([this, i, &make] { RunCore(i, make); });
  RunCore(0, make);
  for (unsigned i = 1; i < size(); ++i) cores_[i]->thread.join();
  EndReactor(*cores_[0]);
  return start_->status;
}

}  // namespace tunnel::core
