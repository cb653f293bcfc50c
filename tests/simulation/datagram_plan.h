// What the applications and targets of one simulated run do with UDP: drawn from the seed.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/sim_random.h"
#include "core/time.h"

namespace tunnel::simulation {

// Targets of datagrams, on one host, which all associations share.
inline constexpr uint32_t kDatagramTargets = 4;
inline constexpr uint16_t kFirstDatagramPort = 30000;

// One association of an application: it asks for it by SOCKS5, sends, and goes when all is answered or it has waited.
struct DatagramPlan {
  uint32_t number = 0;
  core::Duration start{};
  uint32_t targets = 1;  // the first so many
  bool by_name = false;  // of every other one
  uint32_t datagrams = 0;
  uint32_t burst = 1;    // so many at once
  core::Duration gap{};  // between bursts
  uint32_t most_bytes = 0;
  core::Duration patience{};  // after the last was sent
};

[[nodiscard]] std::vector<DatagramPlan> DrawDatagrams(core::SimRandom& random, uint32_t associations,
                                                      core::Duration window, core::Duration patience);
[[nodiscard]] std::string Describe(const DatagramPlan& plan);

// --- what is in a datagram: who sent it to whom, and bytes that follow from that ---
struct DatagramKey {
  uint32_t association = 0;
  uint32_t target = 0;
  uint32_t number = 0;
  auto operator<=>(const DatagramKey&) const = default;
};
inline constexpr size_t kDatagramKeyBytes = 12;
// `size` is at least kDatagramKeyBytes.
[[nodiscard]] std::vector<uint8_t> MakeDatagram(const DatagramKey& key, size_t size);
// nullopt: it is none that MakeDatagram() made.
[[nodiscard]] std::optional<DatagramKey> ReadDatagram(std::span<const uint8_t> datagram);

}  // namespace tunnel::simulation
