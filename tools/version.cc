#include <ares.h>
#include <nghttp2/nghttp2.h>
#include <openssl/base.h>
#include <openssl/crypto.h>

#include <iterator>
#include <span>
#include <string>

#include "core/udp_offload.h"
#include "core/uring_features.h"
#include "tools/build_info.h"
#include "tools/verbs.h"

namespace tunnel::tools {
namespace {

std::string UringText() {
  std::string error;
  const core::UringFeatures granted = core::ProbeUring({}, error);
  return error.empty() ? fmt::format("granted, with {}", granted.Describe()) : fmt::format("refused: {}", error);
}

std::string OffloadText() {
  const std::string granted = core::ProbeUdpOffload({}).Describe();
  return granted.empty() ? "no offload" : granted;
}

}  // namespace

std::string VersionText() {
  const std::span<const char* const> features = core::UringFeatureNames();
  return fmt::format(
      "ech-tunnel {}\n"
      "compiler   {}, {} build\n"
      "BoringSSL  API {}\n"
      "liburing   {}\n"
      "nghttp2    {}\n"
      "c-ares     {}\n"
      "backends   io_uring ({}), epoll\n"
      "io_uring   {}\n"
      "UDP        {}\n",
      ECH_TUNNEL_VERSION, ECH_TUNNEL_COMPILER, ECH_TUNNEL_BUILD_TYPE, BORINGSSL_API_VERSION,
      ECH_TUNNEL_LIBURING_VERSION, nghttp2_version(0)->version_str, ares_version(nullptr), fmt::join(features, ", "),
      UringText(), OffloadText());
}

}  // namespace tunnel::tools
