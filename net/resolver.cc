#include "net/resolver.h"

#include <algorithm>

namespace tunnel::net {

using core::SocketAddress;

std::vector<SocketAddress> OrderForDialling(const std::vector<SocketAddress>& addresses) {
  std::vector<SocketAddress> v6;
  std::vector<SocketAddress> v4;
  for (const SocketAddress& address : addresses) {
    std::vector<SocketAddress>& family = address.is_v6() ? v6 : v4;
    if (std::find(family.begin(), family.end(), address) == family.end()) family.push_back(address);
  }
  std::vector<SocketAddress> ordered;
  ordered.reserve(v6.size() + v4.size());
  for (size_t i = 0; i < std::max(v6.size(), v4.size()); ++i) {
    if (i < v6.size()) ordered.push_back(v6[i]);
    if (i < v4.size()) ordered.push_back(v4[i]);
  }
  return ordered;
}

}  // namespace tunnel::net
