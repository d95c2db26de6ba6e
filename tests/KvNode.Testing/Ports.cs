using System.Net;
using System.Net.Sockets;

namespace KvNode.Testing;

/// <summary>Finds TCP ports nobody uses.</summary>
public static class Ports
{
    // Below the range from which the kernel takes ports for outgoing connections (32768 and up), so that a port found
    // free is not taken by some client between the look and the use.
    private const int First = 20_000;
    private const int Last = 32_000;

    /// <summary>A port that was free a moment ago. Another process may still be faster: callers retry.</summary>
    public static int Free()
    {
        while (true)
        {
            var port = Random.Shared.Next(First, Last);
            using var probe = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            try
            {
                probe.Bind(new IPEndPoint(IPAddress.Loopback, port));
                return port;
            }
            catch (SocketException failure) when (failure.SocketErrorCode == SocketError.AddressAlreadyInUse)
            {
                // Somebody's; look on.
            }
        }
    }
}
