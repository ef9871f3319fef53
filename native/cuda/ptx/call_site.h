// Where a wrapper is called from, for the emulator's findings: a default argument at the end of its parameters, nothing on a GPU.
#pragma once

#ifdef ALMA_EMULATOR
#include "../../emulator/report.h"
#define ALMA_CALL_SITE , ::alma::emulator::Here here = ALMA_EMULATOR_HERE
#define ALMA_CALL_SITE_ONLY ::alma::emulator::Here here = ALMA_EMULATOR_HERE
#else
#define ALMA_CALL_SITE
#define ALMA_CALL_SITE_ONLY
#endif
