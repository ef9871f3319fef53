#pragma once

namespace alma::cpu {

// Whether the processor has AMX with bf16 and the system lets this process use it: tiles are registers of 8 KiB a thread, for which Linux wants to
// be asked (5.16 and later). From then on all threads of the process may have them.
bool request_amx();

}  // namespace alma::cpu
