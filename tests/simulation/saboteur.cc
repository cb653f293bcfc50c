#include "saboteur.h"

namespace tunnel::simulation {

using core::Duration;
using core::SimFault;
using core::SimHost;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

bool SessionBugs::Strikes(net::MuxBug bug) {
  if (armed_ != bug) return false;
  armed_.reset();
  world_.Count(SimFault::kPlanted);
  return true;
}

Duration Saboteur::Between(Duration low, Duration high) {
  return Duration(
      static_cast<int64_t>(random_.Between(static_cast<uint64_t>(low.count()), static_cast<uint64_t>(high.count()))));
}

const std::array<Saboteur::Way, 8> Saboteur::kWays = {{
    {SimFault::kCut, 6, &Saboteur::CutOne},
    {SimFault::kCutAtByte, 6, &Saboteur::CutOneAtAByte},
    {SimFault::kFreezeConnection, 6, &Saboteur::FreezeOne},
    {SimFault::kFreezeHost, 2, &Saboteur::FreezeServer},
    {SimFault::kNoDescriptors, 3, &Saboteur::TakeDescriptors},
    {SimFault::kNoBuffers, 3, &Saboteur::TakeBuffers},
    {SimFault::kStall, 4, &Saboteur::StallOne},
    {SimFault::kClockJump, 1, &Saboteur::JumpAhead},
}};

void Saboteur::Start(const Sabotage& sabotage) {
  active_ = true;
  sabotage_ = sabotage;
  world_.chaos().call_fails = sabotage.call_fails;
  world_.chaos().failing = sabotage.kinds;
  world_.network().SetFaulty(places_.client, true);
  world_.network().SetFaulty(places_.server, true);
  Schedule();
}

void Saboteur::FailCall(uint64_t number) {
  world_.chaos().fail_call = world_.calls() + number;
  world_.network().SetFaulty(places_.client, true);
  world_.network().SetFaulty(places_.server, true);
}

void Saboteur::CutFirstChannel(const ChannelCut& cut) {
  world_.network().SetOnConnect([this, cut](const core::SimNetwork::ConnectionView& connection) {
    if (connection.hosts[0] != places_.client || connection.hosts[1] != places_.server) return;
    world_.network().CutAfter(connection.serial, cut.from, cut.bytes);
    world_.network().SetOnConnect(nullptr);
  });
}

void Saboteur::Stop() {
  active_ = false;
  bugs_.Disarm();
  world_.chaos().call_fails = 0;
  world_.chaos().fail_call = 0;
  world_.network().ThawHost(places_.server);
  for (const SimHost host : {places_.client, places_.server}) world_.network().SetDescriptorsLeft(host, std::nullopt);
  for (const core::Reactor* reactor : reactors_) world_.LimitBuffers(*reactor, std::nullopt);
}

void Saboteur::Schedule() {
  world_.After(Between(microseconds(1), 2 * sabotage_.every), [this] {
    if (!active_) return;
    Act();
    Schedule();
  });
}

uint64_t Saboteur::Pick(SimHost one, SimHost other) {
  std::vector<uint64_t> found;
  for (const core::SimNetwork::ConnectionView& connection : world_.network().Connections()) {
    if (connection.hosts[0] == one && connection.hosts[1] == other) found.push_back(connection.serial);
  }
  return found.empty() ? 0 : found[random_.Below(found.size())];
}

// Mostly of the tunnel; that applications and targets lose theirs is their own affair, and ours to pass on.
uint64_t Saboteur::PickAny() {
  switch (random_.Below(8)) {
    case 0:
      return Pick(places_.applications, places_.client);
    case 1:
      return Pick(places_.server, places_.targets);
    default:
      return Pick(places_.client, places_.server);
  }
}

void Saboteur::CutOne() {
  if (const uint64_t connection = PickAny(); connection != 0) world_.network().Cut(connection);
}

void Saboteur::CutOneAtAByte() {
  const uint64_t connection = PickAny();
  if (connection == 0) return;
  // Early bytes are those of handshakes and heads.
  const uint64_t bytes = random_.Between(0, random_.Below(2) == 0 ? 3000 : 200'000);
  world_.network().CutAfter(connection, static_cast<int>(random_.Below(2)), bytes);
}

void Saboteur::FreezeOne() {
  const uint64_t connection = Pick(places_.client, places_.server);
  if (connection == 0) return;
  const uint64_t which = random_.Below(3);
  if (which != 0) world_.network().Freeze(connection, 0);
  if (which != 1) world_.network().Freeze(connection, 1);
  froze_towards_server_ |= which == 0;
  world_.Count(SimFault::kFreezeConnection);
  if (random_.Below(4) == 0) return;  // for ever
  const Duration most = random_.Below(3) == 0 ? seconds(45) : milliseconds(500);
  world_.After(Between(microseconds(100), most), [this, connection] { world_.network().Thaw(connection); });
}

void Saboteur::FreezeServer() {
  world_.network().FreezeHost(places_.server);
  world_.Count(SimFault::kFreezeHost);
  const Duration most = random_.Below(4) == 0 ? seconds(40) : seconds(1);
  world_.After(Between(milliseconds(1), most), [this] { world_.network().ThawHost(places_.server); });
}

void Saboteur::TakeDescriptors() {
  const SimHost host = random_.Below(2) == 0 ? places_.client : places_.server;
  world_.network().SetDescriptorsLeft(host, random_.Below(3));
  world_.Count(SimFault::kNoDescriptors);
  world_.After(Between(milliseconds(1), seconds(2)),
               [this, host] { world_.network().SetDescriptorsLeft(host, std::nullopt); });
}

void Saboteur::TakeBuffers() {
  const core::Reactor& reactor = PickReactor();
  world_.LimitBuffers(reactor, static_cast<unsigned>(random_.Below(3)));
  world_.After(Between(milliseconds(1), seconds(2)), [this, &reactor] {
    if (active_) world_.LimitBuffers(reactor, std::nullopt);
  });
}

void Saboteur::StallOne() {
  const Duration most = random_.Below(5) == 0 ? seconds(5) : milliseconds(100);
  world_.Stall(PickReactor(), Between(microseconds(100), most));
}

void Saboteur::JumpAhead() {
  // A day's worth of them would be over in no time.
  if (random_.Below(4) == 0) world_.Jump(Between(milliseconds(100), seconds(60)));
}

void Saboteur::Act() {
  uint64_t weights = 0;
  for (const Way& way : kWays) weights += sabotage_.kinds.test(static_cast<size_t>(way.kind)) ? way.weight : 0;
  if (weights == 0) return;
  uint64_t drawn = random_.Below(weights);
  for (const Way& way : kWays) {
    const uint64_t weight = sabotage_.kinds.test(static_cast<size_t>(way.kind)) ? way.weight : 0;
    if (drawn < weight) {
      (this->*way.act)();
      return;
    }
    drawn -= weight;
  }
}

void Saboteur::StartPlanting(Plant plant, Duration every) {
  active_ = true;
  plant_ = plant;
  plant_every_ = every;
  SchedulePlant();
}

void Saboteur::SchedulePlant() {
  world_.After(Between(microseconds(1), 2 * plant_every_), [this] {
    if (!active_) return;
    PlantOne();
    SchedulePlant();
  });
}

void Saboteur::PlantOne() {
  if (plant_ == Plant::kDropRetained || plant_ == Plant::kSkipCredit) {
    bugs_.Arm(plant_ == Plant::kDropRetained ? net::MuxBug::kDropRetained : net::MuxBug::kSkipCredit);
    return;
  }
  // Where the program's bytes come out: at an application or at a target.
  const bool at_target = random_.Below(2) == 0;
  const uint64_t connection =
      at_target ? Pick(places_.server, places_.targets) : Pick(places_.applications, places_.client);
  const auto what = plant_ == Plant::kLoseChunk     ? core::SimPlant::kLoseData
                    : plant_ == Plant::kRepeatChunk ? core::SimPlant::kRepeatData
                                                    : core::SimPlant::kLoseEnd;
  if (connection != 0) world_.network().PlantBug(connection, at_target ? 1 : 0, what);
}

}  // namespace tunnel::simulation
