using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace KvNode.Server.Hosting;

/// <summary>Where the node listens, and the name other members know it by.</summary>
/// <param name="Host">Name or number, without brackets; empty for every address of the machine.</param>
/// <param name="Port">0 lets the system choose.</param>
internal sealed record ListenAddress(string Host, int Port)
{
    /// <summary>Reads <c>host:port</c>, <c>1.2.3.4:port</c>, <c>[::1]:port</c> or <c>:port</c>.</summary>
    /// <returns>Null when sound, otherwise what is wrong.</returns>
    public static string? TryParse(string text, out ListenAddress address)
    {
        address = new ListenAddress("", 0);
        var colon = text.LastIndexOf(':');
        if (colon < 0)
        {
            return $"'{text}' has no port; write host:port, [ipv6]:port or :port";
        }

        var host = text[..colon];
        if (host is ['[', .., ']'])
        {
            host = host[1..^1];
            if (!IPAddress.TryParse(host, out var ip) || ip.AddressFamily != AddressFamily.InterNetworkV6)
            {
                return $"'{host}' is not an IPv6 address";
            }
        }
        else if (host.Length > 0 && Uri.CheckHostName(host) is not (UriHostNameType.Dns or UriHostNameType.IPv4))
        {
            return $"'{host}' is not a host name or IPv4 address (IPv6 goes in brackets)";
        }

        var portText = text[(colon + 1)..];
        if (!ushort.TryParse(portText, NumberStyles.None, CultureInfo.InvariantCulture, out var port))
        {
            return $"'{portText}' is not a port from 0 to 65535";
        }

        address = new ListenAddress(host, port);
        return null;
    }

    /// <summary>How others may reach what listens here: every address of the machine is named by the machine's name.</summary>
    public string Reachable() => Host.Length == 0 ? $"{Dns.GetHostName()}:{Port}" : ToString();

    /// <summary>What to bind. A name is looked up; its first address wins, IPv4 before IPv6.</summary>
    /// <exception cref="SocketException">The name is unknown.</exception>
    public async Task<IPEndPoint> ResolveAsync()
    {
        if (Host.Length == 0)
        {
            return new IPEndPoint(Socket.OSSupportsIPv6 ? IPAddress.IPv6Any : IPAddress.Any, Port);
        }

        if (IPAddress.TryParse(Host, out var literal))
        {
            return new IPEndPoint(literal, Port);
        }

        var found = await Dns.GetHostAddressesAsync(Host);
        var best = Array.Find(found, static a => a.AddressFamily == AddressFamily.InterNetwork) ?? found[0];
        return new IPEndPoint(best, Port);
    }

    /// <summary>As it is typed and as other members know it; an IPv6 address in brackets.</summary>
    public override string ToString() => Host.Contains(':') ? $"[{Host}]:{Port}" : $"{Host}:{Port}";
}
