#include "saboteur.h"

namespace tunnel::simulation {

using core::Duration;
using core::SimFault;
using core::SimHost;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

Duration Saboteur::Between(Duration low, Duration high) {
  return Duration(
      static_cast<int64_t>(random_.Between(static_cast<uint64_t>(low.count()), static_cast<uint64_t>(high.count()))));
}

void Saboteur::Start(Duration every, uint32_t call_fails) {
  active_ = true;
  every_ = every;
  world_.chaos().call_fails = call_fails;
  world_.network().SetFaulty(places_.client, true);
  world_.network().SetFaulty(places_.server, true);
  Schedule();
}

void Saboteur::Stop() {
  active_ = false;
  world_.chaos().call_fails = 0;
  world_.network().ThawHost(places_.server);
  for (const SimHost host : {places_.client, places_.server}) world_.network().SetDescriptorsLeft(host, std::nullopt);
  for (const core::Reactor* reactor : reactors_) world_.LimitBuffers(*reactor, std::nullopt);
}

void Saboteur::Schedule() {
  world_.After(Between(microseconds(1), 2 * every_), [this] {
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

void Saboteur::Squeeze() {
  const Duration time = Between(milliseconds(1), seconds(2));
  if (random_.Below(2) == 0) {
    const SimHost host = random_.Below(2) == 0 ? places_.client : places_.server;
    world_.network().SetDescriptorsLeft(host, random_.Below(3));
    world_.Count(SimFault::kNoDescriptors);
    world_.After(time, [this, host] { world_.network().SetDescriptorsLeft(host, std::nullopt); });
    return;
  }
  const core::Reactor& reactor = PickReactor();
  world_.LimitBuffers(reactor, static_cast<unsigned>(random_.Below(3)));
  world_.After(time, [this, &reactor] {
    if (active_) world_.LimitBuffers(reactor, std::nullopt);
  });
}

void Saboteur::Act() {
  switch (random_.Below(16)) {
    case 0:
    case 1:
    case 2:
      CutOne();
      break;
    case 3:
    case 4:
    case 5:
      CutOneAtAByte();
      break;
    case 6:
    case 7:
    case 8:
      FreezeOne();
      break;
    case 9:
      FreezeServer();
      break;
    case 10:
    case 11:
    case 12:
      Squeeze();
      break;
    case 13:
    case 14:
      world_.Stall(PickReactor(), Between(microseconds(100), random_.Below(5) == 0 ? seconds(5) : milliseconds(100)));
      break;
    case 15:
      if (random_.Below(8) == 0) world_.Jump(Between(milliseconds(100), seconds(60)));
      break;
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
    // Where the program's bytes come out: at an application or at a target.
    const bool at_target = random_.Below(2) == 0;
    const uint64_t connection =
        at_target ? Pick(places_.server, places_.targets) : Pick(places_.applications, places_.client);
    const auto what = plant_ == Plant::kLoseChunk     ? core::SimPlant::kLoseData
                      : plant_ == Plant::kRepeatChunk ? core::SimPlant::kRepeatData
                                                      : core::SimPlant::kLoseEnd;
    if (connection != 0) world_.network().PlantBug(connection, at_target ? 1 : 0, what);
    SchedulePlant();
  });
}

}  // namespace tunnel::simulation
