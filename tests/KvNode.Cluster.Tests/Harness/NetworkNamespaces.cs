using System.Globalization;
using System.Net;
using KvNode.Testing;

namespace KvNode.Cluster.Tests.Harness;

/// <summary>
/// A network of the test's own: one namespace for each node, all on one bridge, on which the test is too. Packets are
/// really lost here, so connections hang and time out as they do when a cable is pulled. Needs root.
/// </summary>
/// <remarks>
/// A direction is cut by a neighbour entry with a hardware address that nobody has: no filter module is needed.
/// </remarks>
internal sealed class NetworkNamespaces : IDisposable
{
    /// <summary>Every node's: it has the addresses of its namespace for itself.</summary>
    public const int Port = 4920;

    private const string Nobody = "02:00:00:00:00:01";

    private readonly string _name = $"kv{Environment.ProcessId:x}";
    private readonly int _subnet;
    private readonly int _nodes;

    private NetworkNamespaces(int nodes, int subnet)
    {
        _nodes = nodes;
        _subnet = subnet;
    }

    /// <summary>Makes the network, or skips the running test and says why.</summary>
    public static NetworkNamespaces Require(int nodes, Random random)
    {
        TestSkip.UnlessRoot("network namespaces cannot be made");
        _ = Tool.Require("ip");
        var network = new NetworkNamespaces(nodes, random.Next(1, 250));
        try
        {
            network.Build();
            return network;
        }
        catch (InvalidOperationException failure)
        {
            network.Dispose();
            TestSkip.Because($"network namespaces cannot be made here: {failure.Message}");
            throw;
        }
    }

    public IPAddress AddressOf(int index) => IPAddress.Parse(Text($"10.213.{_subnet}.{index + 10}"));

    public string[] LauncherOf(int index) => [Tool.Require("ip"), "netns", "exec", Space(index)];

    /// <summary>Pulls the node's cable.</summary>
    public void Cut(int index) => Ip("link", "set", Cable(index), "down");

    /// <summary>What this node sends to that one is lost; the other direction works.</summary>
    public void Silence(int from, int to) =>
        Ip("-n", Space(from), "neigh", "replace", $"{AddressOf(to)}", "lladdr", Nobody, "dev", "eth0", "nud", "permanent");

    public void Heal()
    {
        for (var from = 0; from < _nodes; from++)
        {
            Ip("link", "set", Cable(from), "up");
            for (var to = 0; to < _nodes; to++)
            {
                // There is none to delete where none was put.
                _ = Tool.Run("ip", ["-n", Space(from), "neigh", "del", $"{AddressOf(to)}", "dev", "eth0"]);
            }
        }
    }

    public void Dispose()
    {
        for (var i = 0; i < _nodes; i++)
        {
            _ = Tool.Run("ip", ["netns", "del", Space(i)]);
            _ = Tool.Run("ip", ["link", "del", Cable(i)]);
        }

        _ = Tool.Run("ip", ["link", "del", _name]);
    }

    private void Build()
    {
        Ip("link", "add", _name, "type", "bridge");
        Ip("addr", "add", Text($"10.213.{_subnet}.1/24"), "dev", _name);
        Ip("link", "set", _name, "up");
        for (var i = 0; i < _nodes; i++)
        {
            Ip("netns", "add", Space(i));
            Ip("link", "add", Cable(i), "type", "veth", "peer", "name", "eth0", "netns", Space(i));
            Ip("link", "set", Cable(i), "master", _name, "up");
            Ip("-n", Space(i), "addr", "add", $"{AddressOf(i)}/24", "dev", "eth0");
            Ip("-n", Space(i), "link", "set", "eth0", "up");
            Ip("-n", Space(i), "link", "set", "lo", "up");
        }
    }

    private string Space(int index) => Text($"{_name}n{index}");

    private string Cable(int index) => Text($"{_name}v{index}");

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    private static void Ip(params string[] arguments) => _ = Tool.RunOk("ip", arguments);
}
