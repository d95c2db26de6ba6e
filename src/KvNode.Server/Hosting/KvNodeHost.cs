using System.Runtime.InteropServices;

namespace KvNode.Server.Hosting;

/// <summary>Runs one node from start to stop: SIGTERM, SIGINT or SHUTDOWN.</summary>
internal static class KvNodeHost
{
    /// <returns>The process's exit code.</returns>
    public static async Task<int> RunAsync(NodeOptions options)
    {
        var (sink, logging) = LogSink.Open(options);
        using var sinkEnd = sink;
        using var loggingEnd = logging;
        var log = logging.CreateLogger("kvnode");
        var stop = new TaskCompletionSource<string>(TaskCreationOptions.RunContinuationsAsynchronously);
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        await using (await Node.StartAsync(options, log, () => stop.TrySetResult("SHUTDOWN")))
        {
            Log.Stopping(log, await stop.Task);
        }

        Log.Stopped(log);
        return ExitCodes.Ok;

        void Stop(PosixSignalContext signal)
        {
            // Cancelling the default keeps the process until the node is down.
            signal.Cancel = true;
            stop.TrySetResult(signal.Signal.ToString());
        }
    }
}
