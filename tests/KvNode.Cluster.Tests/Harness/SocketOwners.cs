using System.Globalization;

namespace KvNode.Cluster.Tests.Harness;

/// <summary>
/// Finds the process at the other end of a loopback connection, from /proc: a proxy sees only an ephemeral port, and has
/// to know which node is calling.
/// </summary>
internal static class SocketOwners
{
    /// <param name="port">The caller's own port.</param>
    /// <param name="listener">The port it called.</param>
    /// <param name="pids">Who may have been.</param>
    /// <returns>One of the pids; null when it was none of them, or is gone already.</returns>
    public static int? Find(int port, int listener, IEnumerable<int> pids)
    {
        var inode = InodeOf(port, listener);
        return inode is null ? null : pids.Cast<int?>().FirstOrDefault(pid => Holds(pid!.Value, $"socket:[{inode}]"));
    }

    private static string? InodeOf(int port, int listener)
    {
        // A dual-mode socket's IPv4 connection is in the second table. Lines: "sl local remote state queues timer retransmits uid timeout inode ...", addresses as HEX:HEX.
        foreach (var line in File.ReadLines("/proc/net/tcp").Skip(1).Concat(File.ReadLines("/proc/net/tcp6").Skip(1)))
        {
            var words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (PortOf(words[1]) == port && PortOf(words[2]) == listener)
            {
                return words[9];
            }
        }

        return null;
    }

    private static int PortOf(string address) =>
        int.Parse(address.AsSpan(address.IndexOf(':', StringComparison.Ordinal) + 1), NumberStyles.HexNumber, CultureInfo.InvariantCulture);

    private static bool Holds(int pid, string socket)
    {
        try
        {
            foreach (var descriptor in Directory.EnumerateFiles($"/proc/{pid}/fd"))
            {
                if (new FileInfo(descriptor).LinkTarget == socket)
                {
                    return true;
                }
            }
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            // The process ended, or a descriptor was closed while we looked.
        }

        return false;
    }
}
