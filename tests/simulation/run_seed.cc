#include "run_seed.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "core/listener.h"
#include "datagram_workload.h"
#include "net/limits.h"
#include "party.h"
#include "scenario.h"
#include "stream_checks.h"
#include "tunnel.h"

namespace tunnel::simulation {
namespace {

using core::Duration;
using core::SimLink;
using core::SimWorld;
using core::SocketAddress;
using std::chrono::seconds;

// How long everything may take to end once the faults have: the longest pauses of parties, a dead peer's half minute, a
// flush, all one after another.
constexpr Duration kSettleLimit = std::chrono::minutes(5);
// Stopping: kDrainLimit, twice kCloseLimit, and what a far peer takes.
constexpr Duration kStopLimit = seconds(60);
// What the program may still have of a stream of which both ends are done, where nothing goes wrong: what is on its way
// on the slowest of links. Less than kFlushLimit, which would cover up that an end waits for news that never comes.
constexpr Duration kMostLingering = seconds(20);
static_assert(kMostLingering < net::kFlushLimit);
// How long an application waits for an answer that was perhaps lost.
constexpr Duration kDatagramPatience = seconds(3);
// Longer than anything is on its way.
constexpr Duration kStillQuiet = seconds(1);
// Channels that stand still for so long are no reason for a stream to time out, whatever else delays them.
constexpr Duration kMostPauses = seconds(5);
// After the faults a stream must come through; each may be given to a channel that is dead and not known to be.
constexpr uint32_t kProbes = 8;
constexpr uint64_t kProbeBytes = 5000;

class Run;
const Run* current_run = nullptr;

class Run {
 public:
  explicit Run(const SeedOptions& options)
      : options_(options), random_(options.seed), scenario_(DrawScenario(random_, options)), world_(scenario_.world) {
    places_.applications = world_.network().AddHost({*SocketAddress::Parse("198.51.100.9", 0)});
    places_.client = world_.network().AddHost({*SocketAddress::Parse(kClientIp, 0)});
    places_.server = world_.network().AddHost({*SocketAddress::Parse(kServerIp, 0)});
    places_.targets = world_.network().AddHost({*SocketAddress::Parse(kTargetIp, 0)});
    world_.network().SetLink(places_.client, places_.server, scenario_.far);
    SetNearLoss(DrawsFaults());
    plans_ = DrawStreams(random_, TraitsOf(options.protocol), scenario_.streams,
                         std::max<uint64_t>(scenario_.total_bytes, scenario_.streams), scenario_.window);
    for (uint32_t i = 0; i < kProbes; ++i) {
      StreamPlan probe{.number = scenario_.streams + i, .socks = i % 2 == 0};
      probe.application = {.send_bytes = kProbeBytes, .piece_bytes = 1000};
      probe.target = {.send_bytes = kProbeBytes, .keeps_step = true, .piece_bytes = 1000};
      plans_.push_back(probe);
    }
    ends_.resize(plans_.size());
    datagram_plans_ = DrawDatagrams(random_, scenario_.associations, scenario_.window,
                                    options.faults.any() ? kDatagramPatience : kSettleLimit / 2);
    outside_ = world_.MakeReactor(places_.applications, 0);
    target_reactor_ = world_.MakeReactor(places_.targets, 0);
    application_scope_ = std::make_unique<core::Scope>(*outside_);
    datagrams_ =
        std::make_unique<DatagramWorkload>(world_, *outside_, *target_reactor_, *application_scope_, datagram_plans_);
    const auto all = static_cast<uint32_t>(plans_.size());
    tunnel_ = std::make_unique<Tunnel>(world_, places_.client, places_.server, scenario_.tunnel, all);
    saboteur_ = std::make_unique<Saboteur>(world_, places_, tunnel_->reactors(), random_.Next());
    current_run = this;
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run() { current_run = nullptr; }

  // False when something would not end: what is left cannot be taken down then.
  bool Live();
  SeedResult Result();
  [[nodiscard]] std::string Text() const {
    return fmt::format("seed {}\n{}{}", options_.seed, Describe(scenario_, DrawsFaults()),
                       world_.trace().Text(world_.start()));
  }

 private:
  // Both ends of a stream.
  struct Ends {
    bool dialled = false;
    bool dial_over = false;  // and the application is there, or is not
    std::string dial_failure;
    std::unique_ptr<Party> application;
    std::unique_ptr<Party> target;
    int targets = 0;
    [[nodiscard]] bool over() const {
      return dialled && dial_over && (application == nullptr || application->record().over) &&
             (target == nullptr || target->record().over);
    }
  };

  [[nodiscard]] bool DrawsFaults() const {
    return options_.faults.any() && options_.fail_call == 0 && !options_.channel_cut.has_value();
  }
  // Every stream that began is over for its two ends.
  [[nodiscard]] bool EndsAreOver() const;
  // And the program has nothing more to do with any.
  [[nodiscard]] bool Quiet() const;
  [[nodiscard]] bool NothingWentWrong() const {
    return world_.faults().total() == world_.faults().of(core::SimFault::kPlanted);
  }
  // Until that is so and stays so.
  SimWorld::Ended Settle();
  void ListenForTargets();
  void Dial(uint32_t number);
  static core::Task<void> DialAndBegin(Run* run, uint32_t number);
  SimWorld::Ended RunUntil(const std::function<bool()>& done, Duration limit);
  void RunProbes();
  void Violate(std::string what) { result_.violations.push_back(std::move(what)); }
  void CheckMemory();
  [[nodiscard]] StreamOutcome OutcomeOf(uint32_t number) const;
  void CheckStreams();
  void CheckDatagrams();
  // On the link to the targets datagrams are lost and copied, or are not.
  void SetNearLoss(bool lossy);

  const SeedOptions options_;
  core::SimRandom random_;
  const Scenario scenario_;
  SimWorld world_;
  Places places_;
  std::vector<StreamPlan> plans_;
  std::vector<Ends> ends_;
  std::vector<DatagramPlan> datagram_plans_;
  std::unique_ptr<core::Reactor> outside_;  // the applications'
  std::unique_ptr<core::Reactor> target_reactor_;
  std::unique_ptr<core::Scope> application_scope_;
  std::vector<core::Listener> target_listeners_;
  std::unique_ptr<DatagramWorkload> datagrams_;
  std::unique_ptr<Tunnel> tunnel_;
  std::unique_ptr<Saboteur> saboteur_;
  SeedResult result_;
  std::string datagram_plans_text_;
  bool over_budget_ = false;
};

SimWorld::Ended Run::RunUntil(const std::function<bool()>& done, Duration limit) {
  return world_.Run(
      [&] {
        CheckMemory();
        return done();
      },
      world_.now() + limit);
}

void Run::CheckMemory() {
  for (core::Reactor* reactor : tunnel_->reactors()) {
    const size_t bytes = reactor->buffers().bytes_in_use();
    result_.most_memory = std::max(result_.most_memory, bytes);
    if (bytes > tunnel_->MemoryBudget() && !std::exchange(over_budget_, true)) {
      Violate(fmt::format("a core holds {} bytes of buffers, more than its {}", bytes, tunnel_->MemoryBudget()));
    }
  }
}

bool Run::EndsAreOver() const {
  for (const Ends& ends : ends_) {
    if (ends.dialled && !ends.over()) return false;
  }
  return datagrams_->quiet();
}

bool Run::Quiet() const {
  if (!EndsAreOver()) return false;
  return std::all_of(tunnel_->reactors().begin(), tunnel_->reactors().end(), [](core::Reactor* reactor) {
    const core::Counters& counters = reactor->counters();
    return counters.streams_open.Get() == 0 && counters.connects_in_progress.Get() == 0;
  });
}

SimWorld::Ended Run::Settle() {
  const core::TimePoint limit = world_.now() + kSettleLimit;
  for (;;) {
    SimWorld::Ended ended = RunUntil([this] { return EndsAreOver(); }, limit - world_.now());
    if (ended != SimWorld::Ended::kDone) return ended;
    const core::TimePoint over_since = world_.now();
    ended = RunUntil([this] { return Quiet(); }, limit - world_.now());
    if (ended != SimWorld::Ended::kDone) return ended;
    if (const Duration lingered = world_.now() - over_since; NothingWentWrong() && lingered > kMostLingering) {
      Violate(fmt::format("a stream lingered for {} ms behind its two ends, and no fault was injected",
                          core::ToMilliseconds(lingered)));
    }
    // What is on its way to a target is nobody's stream yet.
    bool woke = false;
    const SimWorld::Ended after = RunUntil([&] { return woke = woke || !Quiet(); }, kStillQuiet);
    if (!woke) return after == SimWorld::Ended::kSpins ? after : SimWorld::Ended::kDone;
  }
}

void Run::ListenForTargets() {
  for (const StreamPlan& plan : plans_) {
    const auto port = static_cast<uint16_t>(kFirstTargetPort + plan.number);
    auto listener = core::Listener::Open(*target_reactor_, *SocketAddress::Parse(kTargetIp, port), false,
                                         [this, &plan](core::StreamSocket socket, const SocketAddress&) {
                                           Ends& ends = ends_[plan.number];
                                           if (++ends.targets == 1) {
                                             ends.target = std::make_unique<Party>(*target_reactor_, std::move(socket),
                                                                                   plan, false, std::nullopt);
                                           }
                                         });
    TUNNEL_CHECK(listener.ok());
    target_listeners_.push_back(*std::move(listener));
  }
}

core::Task<void> Run::DialAndBegin(Run* run, uint32_t number) {
  const StreamPlan& plan = run->plans_[number];
  const auto port = plan.socks ? kSocksPort : static_cast<uint16_t>(kFirstForwardPort + number);
  auto socket = co_await core::Connect(*run->outside_, *SocketAddress::Parse(kClientIp, port));
  Ends& ends = run->ends_[number];
  ends.dial_over = true;
  if (!socket.ok()) {
    ends.dial_failure = MessageOf(socket.status());
    co_return;
  }
  std::optional<proto::Target> request;
  if (plan.socks) {
    request.emplace();
    request->host = plan.by_name ? kTargetName : kTargetIp;
    request->port = static_cast<uint16_t>(kFirstTargetPort + number);
  }
  ends.application = std::make_unique<Party>(*run->outside_, *std::move(socket), plan, true, std::move(request));
}

void Run::Dial(uint32_t number) {
  ends_[number].dialled = true;
  application_scope_->Spawn(DialAndBegin(this, number));
  outside_->Wake();
}

StreamOutcome Run::OutcomeOf(uint32_t number) const {
  const Ends& ends = ends_[number];
  StreamOutcome outcome{.plan = plans_[number], .times_connected = ends.targets};
  const core::SimNetwork& network = world_.network();
  const auto hit = [&](const PartyRecord& record) { return network.WasHit(record.local, record.peer); };
  if (ends.application != nullptr) {
    outcome.application = ends.application->record();
    outcome.application_hit = hit(outcome.application);
  } else {
    outcome.application_hit = !ends.dial_failure.empty();  // on its way to the program
  }
  if (ends.target != nullptr) {
    outcome.target = ends.target->record();
    outcome.target_hit = hit(outcome.target);
  }
  return outcome;
}

void Run::CheckStreams() {
  Duration pauses{};
  for (const StreamPlan& plan : plans_) pauses += PausesOf(plan);
  const CarrierTraits carrier = TraitsOf(options_.protocol);
  uint64_t fatal = 0;
  for (const core::SimFault fault :
       {core::SimFault::kFreezeHost, core::SimFault::kClockJump, core::SimFault::kNoDescriptors,
        core::SimFault::kOpenStream, core::SimFault::kConnect}) {
    fatal += world_.faults().of(fault);
  }
  const core::SimFaultCounts& faults = world_.faults();
  const uint64_t cuts = faults.of(core::SimFault::kCut) + faults.of(core::SimFault::kCutAtByte);
  const RunTraits traits{.carrier = carrier,
                         .faults = world_.faults().total() > 0,
                         .channels_may_stop = !carrier.isolates_streams && pauses > kMostPauses,
                         .sessions_hold = fatal == 0,
                         // The channel and what is dialled in its place: two make kMuxDeadLimit and kDialLimit.
                         // And each that is lost soon doubles the back-off, which is no shorter for an opening's sake.
                         .openings_hold = faults.of(core::SimFault::kFreezeConnection) < 2 && cuts < 5 &&
                                          !saboteur_->froze_towards_server()};
  for (uint32_t number = 0; number < plans_.size(); ++number) {
    const Ends& ends = ends_[number];
    if (!ends.dialled) continue;
    const StreamOutcome outcome = OutcomeOf(number);
    if (!ends.over()) {
      Violate(fmt::format("{}: still waits long after the faults; application: {}{}; target: {}",
                          Describe(outcome.plan), ends.dial_over ? "" : "still dialling, ",
                          outcome.application.Describe(), outcome.target.Describe()));
    }
    for (std::string& wrong : CheckStream(outcome, traits)) Violate(std::move(wrong));
    result_.bytes += outcome.application.received + outcome.target.received;
    if (outcome.whole()) ++result_.streams_whole;
    ++result_.streams;
  }
}

void Run::CheckDatagrams() {
  DatagramWorkload::Circumstances circumstances{.faults = world_.faults().total() > 0,
                                                .copies = scenario_.near.datagram_copies > 0 ? 2U : 1U};
  for (core::Reactor* reactor : tunnel_->reactors()) {
    const core::Counters& counters = reactor->counters();
    circumstances.dropped += counters.datagrams_dropped.Get() + counters.datagrams_unsent.Get();
  }
  for (std::string& wrong : datagrams_->Check(circumstances)) Violate(std::move(wrong));
  result_.datagrams = datagrams_->datagrams_sent();
  result_.datagrams_answered = datagrams_->datagrams_answered();
  result_.bytes += datagrams_->bytes();
}

void Run::SetNearLoss(bool lossy) {
  SimLink near = scenario_.near;
  if (!lossy) near.datagram_loss = near.datagram_copies = 0;
  world_.network().SetLink(places_.server, places_.targets, near);
}

void Run::RunProbes() {
  for (uint32_t i = 0; i < kProbes; ++i) {
    const uint32_t number = scenario_.streams + i;
    Dial(number);
    if (Settle() != SimWorld::Ended::kDone) return;
    if (!OutcomeOf(number).whole()) continue;
    if (scenario_.associations > 0) {
      datagrams_->StartProbe();
      (void)Settle();
    }
    return;
  }
  Violate(fmt::format("{} streams in a row failed after the faults had ended, with {} channels up", kProbes,
                      tunnel_->channels_up()));
}

bool Run::Live() {
  ListenForTargets();
  for (uint32_t number = 0; number < scenario_.streams; ++number) {
    world_.After(plans_[number].start, [this, number] { Dial(number); });
  }
  datagrams_->Start();
  if (options_.fail_call != 0) {
    saboteur_->FailCall(options_.fail_call);
  } else if (options_.channel_cut.has_value()) {
    saboteur_->CutFirstChannel(*options_.channel_cut);
  } else if (DrawsFaults()) {
    saboteur_->Start({.every = scenario_.fault_every, .call_fails = scenario_.call_fails, .kinds = options_.faults});
  }
  if (options_.plant != Plant::kNone) saboteur_->StartPlanting(options_.plant, scenario_.window / 20);
  SimWorld::Ended ended = RunUntil([] { return false; }, scenario_.window);
  saboteur_->Stop();
  SetNearLoss(false);
  if (ended != SimWorld::Ended::kSpins) ended = Settle();
  if (ended == SimWorld::Ended::kDone) RunProbes();
  if (ended == SimWorld::Ended::kSpins) Violate("a reactor turns and turns and has nothing to do");
  if (ended == SimWorld::Ended::kLimit) Violate("streams go on long after the faults have ended");
  CheckStreams();

  CheckDatagrams();
  datagram_plans_text_ = datagrams_->DescribePlans();
  datagrams_->LeaveAll();
  for (Ends& ends : ends_) {
    if (ends.application != nullptr) ends.application->Drop();
    if (ends.target != nullptr) ends.target->Drop();
  }
  tunnel_->Stop();
  if (RunUntil([this] { return tunnel_->stopped() && application_scope_->empty(); }, kStopLimit) !=
      SimWorld::Ended::kDone) {
    Violate("the program was told to stop and does not");
    return false;
  }
  if (const std::string leaks = tunnel_->EndAndFindLeaks(); !leaks.empty()) Violate("leaked: " + leaks);
  tunnel_.reset();
  ends_.clear();
  datagrams_.reset();
  application_scope_.reset();
  target_listeners_.clear();
  outside_.reset();
  target_reactor_.reset();
  if (const size_t open = world_.network().open_sockets(); open != 0) {
    Violate(fmt::format("leaked: {} sockets are still open", open));
  }
  return true;
}

SeedResult Run::Result() {
  result_.scenario = Describe(scenario_, DrawsFaults());
  for (const StreamPlan& plan : plans_) {
    if (plan.number < scenario_.streams) result_.scenario += "  " + Describe(plan) + "\n";
  }
  result_.scenario += datagram_plans_text_;
  result_.faults = world_.faults();
  result_.hash = world_.trace().hash();
  result_.events = world_.trace().events();
  result_.virtual_ms = core::ToMilliseconds(world_.now() - world_.start());
  if (!result_.violations.empty() || options_.want_trace) result_.trace = world_.trace().Text(world_.start());
  return std::move(result_);
}

}  // namespace

SeedResult RunSeed(const SeedOptions& options) {
  auto run = std::make_unique<Run>(options);
  const bool ended = run->Live();
  SeedResult result = run->Result();
  if (!ended) {
    // Half a program cannot be destroyed; it is kept, for the verdict is in.
    static std::vector<Run*> stuck;
    stuck.push_back(run.release());
    current_run = nullptr;
  }
  return result;
}

std::string CurrentRun() { return current_run == nullptr ? std::string() : current_run->Text(); }

}  // namespace tunnel::simulation
