#include "datagram_workload.h"

#include <fmt/format.h>

#include "tunnel.h"

namespace tunnel::simulation {
namespace {

// A channel that is dead and not known to be takes datagrams for half a minute.
constexpr uint32_t kProbeDatagrams = 60;
constexpr core::Duration kProbeGap = std::chrono::seconds(1);

}  // namespace

DatagramWorkload::DatagramWorkload(core::SimWorld& world, core::Reactor& applications, core::Reactor& targets,
                                   core::Scope& scope, const std::vector<DatagramPlan>& plans)
    : world_(world), applications_(applications), scope_(scope) {
  for (uint32_t i = 0; i < kDatagramTargets; ++i) targets_.push_back(std::make_unique<DatagramTarget>(targets, i));
  for (const DatagramPlan& plan : plans) {
    all_.push_back(std::make_unique<Ends>());
    all_.back()->plan = plan;
  }
}

void DatagramWorkload::Start() {
  for (const auto& ends : all_) {
    world_.After(ends->plan.start, [this, at = ends.get()] { Dial(*at); });
  }
}

void DatagramWorkload::StartProbe() {
  all_.push_back(std::make_unique<Ends>());
  Ends& ends = *all_.back();
  ends.plan = {.number = static_cast<uint32_t>(all_.size() - 1),
               .targets = 1,
               .datagrams = kProbeDatagrams,
               .gap = kProbeGap,
               .most_bytes = 100,
               .patience = kProbeGap};
  ends.probe = true;
  Dial(ends);
}

void DatagramWorkload::Dial(Ends& ends) {
  ends.dialled = true;
  scope_.Spawn(DialAndBegin(this, &ends));
  applications_.Wake();
}

core::Task<void> DatagramWorkload::DialAndBegin(DatagramWorkload* workload, Ends* ends) {
  auto control = co_await core::Connect(workload->applications_, *core::SocketAddress::Parse(kClientIp, kSocksPort));
  ends->dial_over = true;
  if (!control.ok()) co_return;
  ends->party = std::make_unique<DatagramParty>(workload->applications_, *std::move(control), ends->plan, ends->probe);
}

bool DatagramWorkload::quiet() const {
  for (const auto& ends : all_) {
    if (!ends->dialled) continue;
    if (!ends->dial_over || (ends->party != nullptr && !ends->party->record().over)) return false;
  }
  return true;
}

void DatagramWorkload::LeaveAll() {
  for (const auto& ends : all_) {
    if (ends->party != nullptr) ends->party->Leave();
  }
}

std::vector<std::string> DatagramWorkload::Check(const Circumstances& circumstances) const {
  std::vector<std::string> wrong;
  int64_t missing = 0;
  for (const auto& ends : all_) {
    if (!ends->dialled) continue;
    const DatagramRecord record = ends->party == nullptr ? DatagramRecord() : ends->party->record();
    const auto violate = [&](std::string_view what) {
      wrong.push_back(fmt::format("{}: {}; {}", Describe(ends->plan), what,
                                  ends->party == nullptr ? "its control connection failed" : record.Describe()));
    };
    if (!record.wrong.empty()) violate(record.wrong);
    if (ends->party != nullptr && !record.over) violate("still waits long after the faults");
    if (!record.granted && !circumstances.faults) violate("it was refused, and no fault was injected");
    if (ends->probe && record.answered == 0) violate("no datagram passes after the faults had ended");
    missing += record.sent - record.answered;
  }
  for (const auto& target : targets_) {
    if (!target->wrong().empty()) wrong.push_back(target->wrong());
    if (target->most_copies() > circumstances.copies) {
      wrong.push_back(fmt::format("one datagram came to a target {} times", target->most_copies()));
    }
  }
  if (!circumstances.faults && missing > circumstances.dropped) {
    wrong.push_back(
        fmt::format("{} datagrams were not answered, {} of which were counted as dropped; no fault was "
                    "injected",
                    missing, circumstances.dropped));
  }
  return wrong;
}

uint64_t DatagramWorkload::datagrams_sent() const {
  uint64_t sum = 0;
  for (const auto& ends : all_) sum += ends->party == nullptr ? 0 : ends->party->record().sent;
  return sum;
}

uint64_t DatagramWorkload::datagrams_answered() const {
  uint64_t sum = 0;
  for (const auto& ends : all_) sum += ends->party == nullptr ? 0 : ends->party->record().answered;
  return sum;
}

uint64_t DatagramWorkload::bytes() const {
  uint64_t sum = 0;
  for (const auto& ends : all_) sum += ends->party == nullptr ? 0 : ends->party->record().bytes;
  return sum;
}

std::string DatagramWorkload::DescribePlans() const {
  std::string text;
  for (const auto& ends : all_) {
    if (!ends->probe) text += "  " + Describe(ends->plan) + "\n";
  }
  return text;
}

}  // namespace tunnel::simulation
