using System.Runtime.InteropServices;

namespace KvNode.Server.Hosting;

/// <summary>Runs one node from start to stop.</summary>
internal static class KvNodeHost
{
    /// <returns>The process's exit code.</returns>
    public static async Task<int> RunAsync(NodeOptions options)
    {
        var stop = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        await using var node = await Node.StartAsync(options, () => stop.TrySetResult());
        await stop.Task;
        return ExitCodes.Ok;

        void Stop(PosixSignalContext signal)
        {
            // Cancelling the default keeps the process until the node is down.
            signal.Cancel = true;
            stop.TrySetResult();
        }
    }
}
