#include "datagram_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace tunnel::simulation {

using core::SimRandom;

std::vector<DatagramPlan> DrawDatagrams(SimRandom& random, uint32_t associations, core::Duration window,
                                        core::Duration patience) {
  std::vector<DatagramPlan> plans;
  for (uint32_t number = 0; number < associations; ++number) {
    DatagramPlan plan{.number = number};
    plan.start = core::Duration(static_cast<int64_t>(random.Below(static_cast<uint64_t>(window.count()))));
    plan.targets = static_cast<uint32_t>(random.Between(1, kDatagramTargets));
    plan.by_name = random.Below(2) == 0;
    plan.datagrams = static_cast<uint32_t>(random.Between(1, uint64_t{1} << random.Between(1, 6)));
    plan.burst = static_cast<uint32_t>(random.Between(1, 8));
    plan.gap = std::chrono::microseconds(random.Between(1, uint64_t{1} << random.Between(10, 20)));
    // Most are as QUIC and DNS have them, some as large as they get.
    plan.most_bytes = static_cast<uint32_t>(random.Below(8) == 0 ? 60'000 : random.Between(kDatagramKeyBytes, 1400));
    plan.patience = patience;
    plans.push_back(plan);
  }
  return plans;
}

std::string Describe(const DatagramPlan& plan) {
  return fmt::format("association {}: at {} ms, {} datagrams of up to {} bytes to {} targets{}, {} every {} us",
                     plan.number, core::ToMilliseconds(plan.start), plan.datagrams, plan.most_bytes, plan.targets,
                     plan.by_name ? ", some by name" : "", plan.burst, plan.gap.count() / 1000);
}

namespace {

void FillDatagram(const DatagramKey& key, std::span<uint8_t> rest) {
  SimRandom((uint64_t{key.association} << 48) ^ (uint64_t{key.target} << 40) ^ key.number).Fill(rest);
}

}  // namespace

std::vector<uint8_t> MakeDatagram(const DatagramKey& key, size_t size) {
  std::vector<uint8_t> bytes(size);
  const uint32_t head[] = {key.association, key.target, key.number};
  static_assert(sizeof(head) == kDatagramKeyBytes);
  std::memcpy(bytes.data(), head, sizeof(head));
  FillDatagram(key, std::span(bytes).subspan(kDatagramKeyBytes));
  return bytes;
}

std::optional<DatagramKey> ReadDatagram(std::span<const uint8_t> datagram) {
  if (datagram.size() < kDatagramKeyBytes) return std::nullopt;
  uint32_t head[3];
  std::memcpy(head, datagram.data(), sizeof(head));
  const DatagramKey key{.association = head[0], .target = head[1], .number = head[2]};
  const std::vector<uint8_t> wanted = MakeDatagram(key, datagram.size());
  if (!std::equal(wanted.begin(), wanted.end(), datagram.begin())) return std::nullopt;
  return key;
}

}  // namespace tunnel::simulation
