namespace KvNode.Server.Hosting;

/// <summary>
/// How .NET's sockets are driven. Both switches are read once, when the first socket of the process is made, so
/// <see cref="Prepare"/> is the first line of the program.
/// </summary>
internal static class SocketEngine
{
    private const string InlineCompletions = "DOTNET_SYSTEM_NET_SOCKETS_INLINE_COMPLETIONS";
    private const string ThreadCount = "DOTNET_SYSTEM_NET_SOCKETS_THREAD_COUNT";

    /// <summary>
    /// Completions run on the thread that polls, and one thread polls: no hand-over between a byte's arrival and its
    /// command, as in Redis's own loop. Measured, this is what makes a .NET listener as fast as Redis's. The price: a
    /// handler must never block that thread. Whoever has set a switch keeps it.
    /// </summary>
    public static void Prepare()
    {
        SetUnlessSet(InlineCompletions, "1");
        SetUnlessSet(ThreadCount, "1");
    }

    private static void SetUnlessSet(string variable, string value)
    {
        if (string.IsNullOrEmpty(Environment.GetEnvironmentVariable(variable)))
        {
            Environment.SetEnvironmentVariable(variable, value);
        }
    }
}
