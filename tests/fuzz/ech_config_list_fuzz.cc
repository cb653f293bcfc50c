// ECHConfigList: what is accepted survives being written and read again, and is what was there.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/check.h"
#include "ech/config_list.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tunnel;
  const std::span<const uint8_t> input(data, size);
  const auto list = ech::ParseConfigList(input);
  const auto filtered = ech::FilterUsable(input);
  TUNNEL_CHECK(list.ok() == filtered.ok());
  if (!list.ok()) {
    TUNNEL_CHECK(list.status().code() == absl::StatusCode::kInvalidArgument ||
                 list.status().code() == absl::StatusCode::kNotFound);
    return 0;
  }
  TUNNEL_CHECK(!list->usable.empty());
  size_t raw_bytes = 2;
  auto place = input.begin();
  for (const ech::EchConfig& config : list->usable) {
    TUNNEL_CHECK(ech::IsValidPublicName(config.public_name) && !config.cipher_suites.empty());
    raw_bytes += config.raw.size();
    // In order, each where it stood.
    const auto found = std::search(place, input.end(), config.raw.begin(), config.raw.end());
    TUNNEL_CHECK(found != input.end());
    place = found + static_cast<std::ptrdiff_t>(config.raw.size());
  }
  TUNNEL_CHECK(filtered->size() == raw_bytes);
  if (list->skipped.empty()) TUNNEL_CHECK(std::ranges::equal(*filtered, input));
  const auto again = ech::ParseConfigList(*filtered);
  TUNNEL_CHECK(again.ok() && again->skipped.empty() && again->usable == list->usable);
  TUNNEL_CHECK(!ech::DescribeConfigList(*list).empty());
  // Only the whole is a list.
  TUNNEL_CHECK(!ech::ParseConfigList(input.first(size - 1)).ok());
  std::vector<uint8_t> longer(input.begin(), input.end());
  longer.push_back(0);
  TUNNEL_CHECK(!ech::ParseConfigList(longer).ok());
  return 0;
}
