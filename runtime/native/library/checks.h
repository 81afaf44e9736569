// What callers may hand over: pictures, boxes, matrices. All throw Error.
#pragma once

#include "geometry/face_crop.h"
#include "include/facemesh.h"

namespace facemesh {

Picture checked(const facemesh_image &image);

// A tight box x1, y1, x2, y2, 0.001 px wide and high at least, that lies at least partly in the picture.
void check_box(const float *box, const Picture &picture);

// A box for itself.
void check_box(const float *box);

Matrix checked_matrix(const double *matrix);

// Throws for a null pointer; `name` is the parameter's.
void need(const void *pointer, const char *name);

// Throws for an empty path.
void need_path(const char *path, const char *name);

// A number of faces.
void check_count(int count, const char *name);

} // namespace facemesh
