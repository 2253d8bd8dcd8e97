#pragma once

#define MILI_VERSION_STRING "0.0.9"
