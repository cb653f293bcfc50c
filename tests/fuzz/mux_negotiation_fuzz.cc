// The values of Ech-Tunnel: what is accepted as offer or answer, written again, reads as the same.
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/check.h"
#include "proto/http1_grammar.h"
#include "proto/mux_negotiation.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tunnel::proto;
  const std::string text(reinterpret_cast<const char*>(data), size);

  const auto offer = ParseMuxOffer(text);
  const auto answer = ParseMuxAnswer(text);
  if (offer.ok() && offer->has_value()) {
    const std::string again = FormatMuxOffer(**offer);
    TUNNEL_CHECK(IsFieldValue(again) && again.size() <= kMuxMaxFieldValueBytes);
    const auto second = ParseMuxOffer(again);
    TUNNEL_CHECK(second.ok() && second->has_value() && **second == **offer);
    // A further protocol beside it changes nothing.
    const auto third = ParseMuxOffer("mux/3;x=y ,\t" + again);
    TUNNEL_CHECK(third.ok() && third->has_value() && **third == **offer);
    TUNNEL_CHECK(!ParseMuxOffer(again + ", " + again).ok());
  }
  if (answer.ok()) {
    const std::string again = FormatMuxAnswer(*answer);
    const auto second = ParseMuxAnswer(again);
    TUNNEL_CHECK(second.ok() && *second == *answer);
    TUNNEL_CHECK(!ParseMuxAnswer(again + "; window=1").ok());
  }
  return 0;
}
