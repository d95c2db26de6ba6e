using System.Globalization;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;

namespace KvNode.Raft.Transport;

/// <summary>Calls a node: connects, with TLS where that is on, and goes through the handshake.</summary>
internal sealed class PeerDialer(TransportOptions options)
{
    // Linux: TCP_USER_TIMEOUT, in milliseconds: how long sent bytes may stay unacknowledged.
    private const int TcpUserTimeout = 18;
    private const int UnacknowledgedMilliseconds = 10_000;
    private const int KeepAliveSeconds = 5;
    private const int KeepAliveProbes = 3;

    /// <exception cref="IOException">Not connected; nothing is left open.</exception>
    /// <exception cref="OperationCanceledException">The caller's token was cancelled.</exception>
    public async Task<(PeerChannel Channel, PeerIdentity Peer)> CallAsync(
        string address, PeerHello hello, CancellationToken cancellation)
    {
        if (!TryParse(address, out var host, out var port))
        {
            throw new TransportException($"'{address}' is not an address");
        }

        PeerChannel? channel = null;
        using var connectTime = new CancellationTokenSource(options.ConnectTimeout, options.Time);
        using var handshakeTime = new CancellationTokenSource(options.ConnectTimeout + options.HandshakeTimeout, options.Time);
        using var connecting = CancellationTokenSource.CreateLinkedTokenSource(cancellation, connectTime.Token);
        using var shaking = CancellationTokenSource.CreateLinkedTokenSource(cancellation, handshakeTime.Token);
        try
        {
            var socket = await ConnectAsync(host, port, connecting.Token);
            channel = options.Security.Tls is { } tls
                ? await SecureAsync(socket, tls.ClientOptions(host), shaking.Token)
                : new SocketChannel(socket);
            var peer = await PeerHandshake.CallAsync(channel, hello, options.Security, shaking.Token);
            return (channel, peer);
        }
        catch (Exception failure)
        {
            channel?.Close();
            cancellation.ThrowIfCancellationRequested();
            throw failure switch
            {
                IOException => failure,
                OperationCanceledException => new TransportException("it does not answer in time", failure),
                SocketException or AuthenticationException => new TransportException(failure.Message, failure),
                _ => failure,
            };
        }
    }

    /// <summary>Splits <c>host:port</c>, the host of an IPv6 address in brackets.</summary>
    public static bool TryParse(string address, out string host, out int port)
    {
        var colon = address.LastIndexOf(':');
        host = colon > 0 ? address[..colon] : "";
        port = 0;
        if (host.StartsWith('[') && host.EndsWith(']'))
        {
            host = host[1..^1];
        }

        return host.Length > 0
            && int.TryParse(address.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out port)
            && port is > 0 and <= ushort.MaxValue;
    }

    private static async Task<Socket> ConnectAsync(string host, int port, CancellationToken cancellation)
    {
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
        try
        {
            // A machine that vanishes is noticed with something on the way to it as well as with nothing.
            socket.NoDelay = true;
            socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
            socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, KeepAliveSeconds);
            socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval, 1);
            socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveRetryCount, KeepAliveProbes);
            if (OperatingSystem.IsLinux())
            {
                socket.SetRawSocketOption(
                    (int)SocketOptionLevel.Tcp, TcpUserTimeout, BitConverter.GetBytes(UnacknowledgedMilliseconds));
            }

            await socket.ConnectAsync(host, port, cancellation);
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    private static async Task<StreamChannel> SecureAsync(
        Socket socket, SslClientAuthenticationOptions tls, CancellationToken cancellation)
    {
        var remote = socket.RemoteEndPoint;
        var stream = new SslStream(new NetworkStream(socket, ownsSocket: true));
        try
        {
            await stream.AuthenticateAsClientAsync(tls, cancellation);
            return new StreamChannel(stream, remote, isCertified: true);
        }
        catch
        {
            await stream.DisposeAsync();
            throw;
        }
    }
}
