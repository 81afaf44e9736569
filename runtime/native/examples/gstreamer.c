/* Faces of a GStreamer pipeline, drawn into another one:
 *
 *     gstreamer MODEL DETECTOR 'SOURCE ! … ! appsink' 'appsrc ! … ! SINK'
 *
 * as in: 'v4l2src ! videoconvert ! video/x-raw,format=BGR ! appsink' 'appsrc ! videoconvert ! autovideosink' */
#include <facemesh.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gst/app/gstappsink.h>
#include <gst/app/gstappsrc.h>
#include <gst/gst.h>
#include <gst/video/video.h>

#define MOST_FACES 8
#define WAIT (GST_SECOND / 10) /* from look to look at the buses */

static void stop(const char *what) {
    fprintf(stderr, "gstreamer: %s\n", what);
    exit(EXIT_FAILURE);
}

/* Stops with the error of a message, which tells the file or the address in the last line of its details alone. */
static void stop_with(GstMessage *message) {
    GError *error = NULL;
    gchar *details = NULL, text[1000];
    gst_message_parse_error(message, &error, &details);
    const char *line = details ? strrchr(details, '\n') : NULL;
    g_snprintf(text, sizeof text, "%s: %s%s%s", GST_MESSAGE_SRC_NAME(message), error->message, line ? " " : "",
               line ? line + 1 : "");
    stop(text);
}

/* Stops if the pipeline has broken off. */
static void check(GstElement *pipeline) {
    GstBus *bus = gst_element_get_bus(pipeline);
    GstMessage *message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR);
    gst_object_unref(bus);
    if (message) stop_with(message);
}

static void play(GstElement *pipeline) {
    if (gst_element_set_state(pipeline, GST_STATE_PLAYING) != GST_STATE_CHANGE_FAILURE) return;
    check(pipeline);
    stop("a pipeline does not start: GST_DEBUG=2 tells why");
}

/* Makes a pipeline and returns its app element, a sink or a source. */
static GstElement *make(const char *description, GstElement **pipeline, GType type) {
    GError *error = NULL;
    *pipeline = gst_parse_launch(description, &error);
    if (error) stop(error->message);
    if (!GST_IS_BIN(*pipeline)) stop("a pipeline has two elements or more, with ! between");
    GstIterator *elements = gst_bin_iterate_all_by_element_factory_name(
        GST_BIN(*pipeline), type == GST_TYPE_APP_SINK ? "appsink" : "appsrc");
    GValue found = G_VALUE_INIT;
    if (gst_iterator_next(elements, &found) != GST_ITERATOR_OK)
        stop("one pipeline ends in appsink, one begins with appsrc");
    GstElement *element = g_value_dup_object(&found);
    g_value_unset(&found);
    gst_iterator_free(elements);
    return element;
}

static void draw(const struct facemesh_face *face, GstVideoFrame *frame) {
    for (int i = 0; i < FACEMESH_LANDMARKS; ++i) {
        const int x = (int)lroundf(face->landmarks[i][0]), y = (int)lroundf(face->landmarks[i][1]);
        if (x < 0 || y < 0 || x >= GST_VIDEO_FRAME_WIDTH(frame) || y >= GST_VIDEO_FRAME_HEIGHT(frame)) continue;
        guint8 *pixel =
            (guint8 *)GST_VIDEO_FRAME_PLANE_DATA(frame, 0) + y * GST_VIDEO_FRAME_PLANE_STRIDE(frame, 0) + 3 * x;
        pixel[0] = pixel[2] = 0;
        pixel[1] = 255;
    }
}

/* Follows the faces of one sample, tells and draws them; returns the sample's buffer, to be pushed. */
static GstBuffer *follow(struct facemesh_tracker *tracker, GstSample *sample) {
    GstVideoInfo info;
    GstVideoFrame frame;
    struct facemesh_face faces[MOST_FACES] = {0};
    GstBuffer *buffer = gst_buffer_copy_deep(gst_sample_get_buffer(sample));
    if (!gst_video_info_from_caps(&info, gst_sample_get_caps(sample)) ||
        (GST_VIDEO_INFO_FORMAT(&info) != GST_VIDEO_FORMAT_BGR && GST_VIDEO_INFO_FORMAT(&info) != GST_VIDEO_FORMAT_RGB))
        stop("the appsink gets no pictures in BGR or RGB; put videoconvert ! video/x-raw,format=BGR before it");
    if (!gst_video_frame_map(&frame, &info, buffer, GST_MAP_READWRITE)) stop("a picture cannot be mapped");
    const struct facemesh_image image = {GST_VIDEO_FRAME_PLANE_DATA(&frame, 0), GST_VIDEO_FRAME_WIDTH(&frame),
                                         GST_VIDEO_FRAME_HEIGHT(&frame), GST_VIDEO_FRAME_PLANE_STRIDE(&frame, 0),
                                         GST_VIDEO_INFO_FORMAT(&info) == GST_VIDEO_FORMAT_BGR ? FACEMESH_BGR
                                                                                              : FACEMESH_RGB};
    const double time_s = GST_BUFFER_PTS_IS_VALID(buffer) ? (double)GST_BUFFER_PTS(buffer) / GST_SECOND : NAN;
    const int count = facemesh_track(tracker, image, time_s, faces, MOST_FACES);
    if (count < 0) stop(facemesh_error());
    for (int i = 0; i < count; ++i) {
        printf("%.3f %d %.3f %.3f\n", time_s, faces[i].track, faces[i].landmarks[30][0], faces[i].landmarks[30][1]);
        draw(&faces[i], &frame);
    }
    gst_video_frame_unmap(&frame);
    return buffer;
}

int main(int argc, char **argv) {
    gst_init(&argc, &argv);
    if (argc != 5) stop("give MODEL.onnx YUNET.onnx 'SOURCE ! … ! appsink' 'appsrc ! … ! SINK'");
    struct facemesh_model *model = facemesh_model_open(argv[1], facemesh_model_default_params());
    if (!model) stop(facemesh_error());
    fputs(facemesh_warnings(model), stderr);
    struct facemesh_detector *detector = facemesh_detector_open(argv[2], facemesh_detector_default_params());
    if (!detector) stop(facemesh_error());
    struct facemesh_tracker_params params = facemesh_tracker_default_params();
    params.vertices = 0;
    struct facemesh_tracker *tracker = facemesh_tracker_new(model, detector, params);
    if (!tracker) stop(facemesh_error());

    GstElement *input, *output;
    GstElement *sink = make(argv[3], &input, GST_TYPE_APP_SINK), *source = make(argv[4], &output, GST_TYPE_APP_SRC);
    g_object_set(source, "format", GST_FORMAT_TIME, NULL);
    play(output);
    play(input);
    while (!gst_app_sink_is_eos(GST_APP_SINK(sink))) {
        GstSample *sample = gst_app_sink_try_pull_sample(GST_APP_SINK(sink), WAIT);
        check(input);
        check(output);
        if (!sample) continue;
        gst_app_src_set_caps(GST_APP_SRC(source), gst_sample_get_caps(sample));
        GstBuffer *buffer = follow(tracker, sample);
        gst_sample_unref(sample);
        if (gst_app_src_push_buffer(GST_APP_SRC(source), buffer) != GST_FLOW_OK) break;
    }
    check(input);
    gst_app_src_end_of_stream(GST_APP_SRC(source));
    GstBus *bus = gst_element_get_bus(output);
    GstMessage *message = gst_bus_timed_pop_filtered(bus, GST_CLOCK_TIME_NONE, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
    if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) stop_with(message);
    gst_element_set_state(input, GST_STATE_NULL);
    gst_element_set_state(output, GST_STATE_NULL);
    facemesh_tracker_free(tracker);
    facemesh_detector_free(detector);
    facemesh_model_free(model);
    return EXIT_SUCCESS;
}
